"""Quantisers whose codes are the nearest of a learned codebook."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above, at_least, within
from vaezoo.distributed import batch_shares, memory
from vaezoo.nn.quantizers import codebooks
from vaezoo.nn.quantizers.base import (
    OPTIONS,
    START_IMAGES,
    Quantized,
    Quantizer,
    codebook_channels,
    precise,
    refuse_too_few,
)

Estimator = Literal["straight_through", "rotation"]


class NearestCode(Quantizer):
    """Quantiser that takes the code at the smallest Euclidean distance.

    A subclass has ``current_codes``. The penalty ``commitment`` is |z - sg(e)|^2, whose gradient moves the encoder;
    ``codebook`` is |sg(z) - e|^2, whose gradient moves the codes, if ``weights`` names it. With ``normalize``, vectors
    and codes are on the unit sphere.
    """

    commits = True
    estimator: Callable[[Tensor, Tensor], Tensor]
    normalize = False

    def current_codes(self) -> Tensor:
        """All codes, (K, c), with the gradient of what they are made of."""
        raise NotImplementedError

    def gather(self, vectors: Tensor, indices: Tensor) -> None:
        """Take note of a training batch of vectors (B, h, w, c) and the indices (B h w,) of their codes."""

    def prepared(self, z: Tensor) -> Tensor:
        """Vectors in float32 or higher, as they are compared with codes: (B, c, h, w) -> (B, h, w, c)."""
        vectors = precise(z).movedim(1, -1)
        return F.normalize(vectors, dim=-1) if self.normalize else vectors

    def look_up(self, vectors: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Codes (B, h, w, c), indices (B, h, w) and penalties (B,) of vectors (B, h, w, c)."""
        book = self.current_codes()
        indices = codebooks.nearest(vectors.detach().flatten(0, -2), book.detach())
        codes = F.embedding(indices, book).view(vectors.shape)
        penalties = {"commitment": (vectors - codes.detach()).square().sum((1, 2, 3))}
        if "codebook" in self.weights:
            penalties["codebook"] = (vectors.detach() - codes).square().sum((1, 2, 3))
        if self.training:
            self.gather(vectors.detach(), indices)
        return codes, indices.view(vectors.shape[:-1]), penalties

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            vectors = self.prepared(z)
            codes, indices, penalties = self.look_up(vectors)
            code = self.estimator(vectors, codes).movedim(-1, 1)
        return Quantized(code, indices[:, None], penalties)

    def codes(self, indices: Tensor) -> Tensor:
        return F.embedding(indices[:, 0], self.current_codes()).movedim(-1, 1)


class VectorQuantizer(NearestCode):
    """The nearest of ``size`` learned codes (van den Oord et al., 2017).

    With ``update="ema"`` the codes are moving averages with ``decay`` of their vectors (appendix A.1 there), with
    counts smoothed by ``eps``; a code whose count is below ``restart`` times the mean becomes a random vector of the
    batch (0: never). With ``update="gradient"`` they follow the gradient of the penalty ``codebook``, and these three
    options have no effect. With ``normalize`` they are cosine codes (Yu et al., 2022, ViT-VQGAN). ConfigError for an
    option out of range, or codes that do not fit into memory.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor
    restarted: Tensor
    """Number of codes that the last update restarted: ()."""
    batch_counts: Tensor
    batch_sums: Tensor
    candidates: Tensor
    keys: Tensor
    """Random numbers of the candidates, which are the vectors with the largest ones; negative: no candidate."""

    def __init__(
        self,
        channels: int | None = None,
        *,
        size: int = 512,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        eps: float = 1e-5,
        restart: float = 0.1,
        estimator: Estimator = "straight_through",
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels = codebook_channels(channels)
        check_size(size, channels)
        _check_averages(decay, eps, restart)
        self.sizes, self.ema, self.normalize = (size,), update == "ema", normalize
        self.weights = {} if self.ema else {"codebook": 1.0}
        self.decay, self.eps, self.restart = decay, eps, restart
        self.estimator = codebooks.ESTIMATORS[estimator]
        codebook = torch.randn(size, channels) / math.sqrt(channels)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("restarted", torch.zeros(()), persistent=False)
        if not self.ema:
            self.codebook = nn.Parameter(codebook)
            return
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("batch_counts", torch.zeros(size), persistent=False)
        self.register_buffer("batch_sums", torch.zeros(size, channels), persistent=False)
        self.register_buffer("candidates", torch.zeros(size if restart else 0, channels), persistent=False)
        self.register_buffer("keys", torch.full((size if restart else 0,), -1.0), persistent=False)

    @property
    def wants_images(self) -> int:
        return 0 if self.started.item() else START_IMAGES

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Codes from k-means of vectors (N, c), each with a count of 1; ConfigError for fewer vectors than codes."""
        refuse_too_few(vectors, len(self.codebook))
        self.start_at(self.fitted(vectors, len(self.codebook)))

    def fitted(self, vectors: Tensor, size: int) -> Tensor:
        """``size`` codes from k-means of vectors (N, c) as they are compared with codes."""
        return codebooks.k_means(F.normalize(vectors, dim=-1) if self.normalize else vectors, size)

    @torch.no_grad()
    def start_at(self, codes: Tensor) -> None:
        """Start at these codes (K, c), each with a count of 1."""
        self.codebook.copy_(codes)
        if self.ema:
            self.counts.fill_(1)
            self.sums.copy_(self.codebook)
        self.started.fill_(True)

    def current_codes(self) -> Tensor:
        return F.normalize(self.codebook, dim=-1) if self.normalize else self.codebook

    # moving averages -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def gather(self, vectors: Tensor, indices: Tensor) -> None:
        """Add this batch's vectors (B, h, w, c), of all ranks, to what the next update takes over."""
        if not self.ema:
            return
        flat = vectors.flatten(0, -2)
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(flat[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, flat)
        parts = [counts[:, None], sums]
        if self.restart:
            keys, chosen = self._draw(vectors)
            parts.append(self._own_rows(vectors, chosen))
        together = batch_shares.sum_of_all(torch.cat(parts, 1))
        self.batch_counts += together[:, 0]
        self.batch_sums += together[:, 1 : 1 + flat.shape[1]]
        if self.restart:
            kept = self.candidates[chosen.clamp(max=len(keys) - 1)]
            self.candidates.copy_(torch.where((chosen < len(keys))[:, None], kept, together[:, 1 + flat.shape[1] :]))
            self.keys.copy_(keys)

    def _draw(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """New ``keys`` (K,), and which vectors have them: first the K candidates so far, then those of the batch.

        The largest of independent random numbers are a draw without replacement, also from several batches in turn.
        Ranks draw for the vectors of all, and so the same.
        """
        share = batch_shares.current()
        images = len(vectors) if share is None else share.total
        drawn = torch.rand(images * vectors.shape[1] * vectors.shape[2], device=vectors.device)
        keys, chosen = torch.cat([self.keys, drawn]).topk(len(self.keys))
        return keys, chosen

    def _own_rows(self, vectors: Tensor, chosen: Tensor) -> Tensor:
        """The chosen vectors (K, c) of this rank's part of the batch, zeros for others."""
        share = batch_shares.current()
        flat = vectors.flatten(0, -2)
        positions = vectors.shape[1] * vectors.shape[2]
        first = 0 if share is None else share.start * positions
        count = len(flat) if share is None else share.size * positions
        row = chosen - len(self.keys) - first
        own = (row >= 0) & (row < count)
        return torch.where(own[:, None], flat[row.clamp(0, len(flat) - 1)], 0.0)

    @torch.no_grad()
    def update(self, restarts: bool = True, next_step: int = 0) -> None:
        """One step of the moving averages, then restarts of unused codes; nothing without finite gathered vectors."""
        if not self.ema:
            return
        counts = torch.lerp(self.batch_counts, self.counts, self.decay)
        sums = torch.lerp(self.batch_sums, self.sums, self.decay)
        total = counts.sum()
        smoothed = (counts + self.eps) / (total + len(counts) * self.eps) * total
        codes = sums / smoothed[:, None]
        restarted = torch.zeros_like(self.restarted)
        if self.restart and restarts:
            threshold = self.restart * total / len(counts)
            dead = counts < threshold
            place = (dead.cumsum(0) - 1).clamp(min=0)
            dead = dead & (self.keys[place] >= 0)
            codes = torch.where(dead[:, None], self.candidates[place], codes)
            counts = torch.where(dead, 2 * threshold, counts)
            sums = torch.where(dead[:, None], 2 * threshold * codes, sums)
            restarted = dead.sum().to(restarted)
        self._take_over(codes, counts, sums, restarted)

    def statistics(self) -> dict[str, Tensor]:
        return {"restarts": self.restarted} if self.ema and self.restart else {}

    def _take_over(self, codes: Tensor, counts: Tensor, sums: Tensor, restarted: Tensor) -> None:
        gathered = (self.batch_counts.sum() > 0) & self.batch_sums.isfinite().all()
        new = {"codebook": codes, "counts": counts, "sums": sums, "restarted": restarted}
        for name, value in new.items():
            buffer = self.get_buffer(name)
            buffer.copy_(torch.where(gathered, value, buffer))
        self.batch_counts.zero_()
        self.batch_sums.zero_()
        self.keys.fill_(-1)


def check_size(size: int, channels: int) -> None:
    """ConfigError for a codebook without codes, or one that does not fit into memory."""
    at_least(size, 1, f"{OPTIONS}.size")
    if torch.empty(0).device.type != "meta":
        memory.refuse_beyond(
            4 * 4 * size * channels, f"a codebook of {size:,} codes", f"choose a smaller {OPTIONS}.size"
        )


def _check_averages(decay: float, eps: float, restart: float) -> None:
    at_least(decay, 0, f"{OPTIONS}.decay")
    if decay >= 1:
        raise ConfigError(f"{OPTIONS}.decay must be below 1, at which codes do not move, got {decay:g}")
    above(eps, 0, f"{OPTIONS}.eps")
    within(restart, 0, 1, f"{OPTIONS}.restart")
