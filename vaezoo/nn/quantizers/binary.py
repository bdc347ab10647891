"""Quantisers that keep the sign of each channel, and the entropies that keep all of their codes in use."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.validation import above, at_least, within
from vaezoo.distributed import batch_shares
from vaezoo.nn.quantizers.base import OPTIONS, Quantized, Quantizer, precise, refuse_other_channels
from vaezoo.nn.quantizers.codebooks import straight_through

MOST_BITS = 16
"""Bits of a code, at most: the usage of each code is counted."""


class BinaryQuantizer(Quantizer):
    """Codes of ``bits`` channels with the values -``scale`` and ``scale``, the signs of vectors; 0 counts as positive.

    The penalty ``entropy`` draws vectors to one code each, and all vectors together to all codes. With
    p(c|z) = softmax(2 z.c / tau) over the corners c, which is softmax(-|z - c|^2 / tau), it is for each image

        sum over its positions of H(p(.|z)) - gamma N H(mean p)

    in nats, where the mean is over the N positions of all images of the batch, on all devices. So it is a statistic of
    the batch, also of each of several batches whose gradients are accumulated. ConfigError for an option out of range.
    """

    batch_statistics = frozenset({"entropy"})
    joint: bool
    """Whether H(mean p) is that of all corners, or the sum of those of the bits, which is at least as large."""

    def __init__(
        self, channels: int | None, bits: int, scale: float, tau: float, entropy_weight: float, gamma: float
    ) -> None:
        super().__init__()
        within(bits, 1, MOST_BITS, f"{OPTIONS}.bits")
        above(tau, 0, f"{OPTIONS}.tau")
        at_least(entropy_weight, 0, f"{OPTIONS}.entropy_weight")
        at_least(gamma, 0, f"{OPTIONS}.gamma")
        refuse_other_channels(channels, bits, "bits")
        self.channels, self.sizes, self.scale, self.tau, self.gamma = bits, (2**bits,), scale, tau, gamma
        self.weights = {"entropy": entropy_weight}
        self.channel_levels = [[-scale, scale]] * bits

    def prepared(self, z: Tensor) -> Tensor:
        """Vectors in float32 or higher, as they are compared with codes: (B, c, h, w) -> the same."""
        return precise(z)

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            vectors = self.prepared(z)
            positive = vectors >= 0
            code = straight_through(vectors, self._signed(positive))
            penalties = {"entropy": self._entropy(4 * self.scale / self.tau * vectors)}
            if self.commits:
                penalties["commitment"] = (vectors - code.detach()).square().sum((1, 2, 3))
        return Quantized(code, (positive.long() * self._places(z)).sum(1, keepdim=True), penalties)

    def codes(self, indices: Tensor) -> Tensor:
        return self._signed(indices[:, :1] // self._places(indices) % 2 > 0)

    def project(self, code: Tensor) -> Tensor:
        return self._signed(code >= 0)

    def _signed(self, positive: Tensor) -> Tensor:
        return torch.where(positive, self.scale, -self.scale).float()

    def _places(self, like: Tensor) -> Tensor:
        """What each channel counts in an index, the first least: (c, 1, 1)."""
        return (2 ** torch.arange(self.channels, device=like.device))[:, None, None]

    def _entropy(self, logits: Tensor) -> Tensor:
        """The penalty, (B,), of the log odds of positive bits, (B, c, h, w)."""
        positions = logits[0, 0].numel()
        of_mean = entropy_of_mean(logits.movedim(1, -1).flatten(1, -2), joint=self.joint)
        return entropy_of_bits(logits).sum((1, 2, 3)) - self.gamma * positions * batch_shares.statistic(of_mean)


class LookupFreeQuantizer(BinaryQuantizer):
    """Signs of the channels, -1 or 1, with the commitment of ``vq`` (Yu et al., 2024, MAGVIT-v2, section 3.1).

    ``entropy`` has the entropy of the mean over all 2^bits codes.
    """

    commits = True
    joint = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        bits: int = 10,
        tau: float = 1.0,
        entropy_weight: float = 0.1,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(channels, bits, 1.0, tau, entropy_weight, gamma)


class BinarySphericalQuantizer(BinaryQuantizer):
    """Signs of vectors on the unit sphere, divided by the root of their number (Zhao et al., 2024).

    The distance of a vector from its code is bounded, so that it needs no commitment. ``entropy`` has the sum of the
    entropies of the bits' means, as in the paper: an upper bound on that of the mean over all codes.
    """

    joint = False

    def __init__(
        self,
        channels: int | None = None,
        *,
        bits: int = 10,
        tau: float = 0.04,
        entropy_weight: float = 0.1,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(channels, bits, 1 / math.sqrt(max(1, bits)), tau, entropy_weight, gamma)

    def prepared(self, z: Tensor) -> Tensor:
        return F.normalize(precise(z), dim=1)

    def path(self, z: Tensor) -> Tensor:
        return self.prepared(z)


def entropy_of_bits(logits: Tensor) -> Tensor:
    """Entropy of a bit with these log odds, in nats: any shape -> the same."""
    size = logits.abs()
    return F.softplus(-size) + size * torch.sigmoid(-size)


def entropy_of_mean(logits: Tensor, *, joint: bool) -> Tensor:
    """Entropy of the mean distribution of independent bits over the whole batch, in nats: log odds (B, N, d) -> ().

    ``joint``: over all 2^d combinations; otherwise the sum over bits. Within a share of a batch, the gradient is that
    of this rank's part; collective there.
    """
    probabilities, positions = torch.sigmoid(logits.flatten(0, 1)), logits.shape[1]
    if joint:
        half = logits.shape[2] // 2
        total = _corners(probabilities[:, :half]).T @ _corners(probabilities[:, half:])  # no (B N, 2^d) in memory
    else:
        total = torch.stack([probabilities.sum(0), (1 - probabilities).sum(0)])
    of_all = batch_shares.sum_of_all(total) + (total - total.detach())
    shares = of_all / (batch_shares.size_of_whole(logits.shape[0]) * positions)
    return torch.special.entr(shares.clamp(min=torch.finfo(shares.dtype).tiny)).sum()  # at 0, its gradient is infinite


def _corners(probabilities: Tensor) -> Tensor:
    """Probabilities of all combinations of independent bits: (M, d) -> (M, 2^d)."""
    found = torch.ones_like(probabilities.sum(1, keepdim=True))  # a length would fix the size of an exported batch
    for bit in probabilities.unbind(1):
        found = torch.cat([found * (1 - bit[:, None]), found * bit[:, None]], 1)
    return found
