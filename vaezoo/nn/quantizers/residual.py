"""The quantiser with several levels, each of which quantises what the levels before it leave over."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vaezoo.config.validation import at_least
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
from vaezoo.nn.quantizers.vector import Estimator, VectorQuantizer


class ResidualQuantizer(Quantizer):
    """Sum of one code of each level (Lee et al., 2022, section 3.1; Zeghidour et al., 2021).

    The residual r_0 is the vector, level m takes the code e_m nearest to r_(m-1), and r_m = r_(m-1) - e_m. The
    gradient is estimated for the sum. ``commitment`` is sum_m |r_(m-1) - sg(e_m)|^2. Codes of a level are those of
    ``VectorQuantizer``, which has the other options.

    Args:
        levels: codes that are added up; size: codes to choose from in each level.
        shared: whether all levels have the same codes.
        dropout: whether training decodes the first levels only, a random number of them for each batch, so that these
            alone give good images. Codes and penalties remain those of all levels.
    """

    commits = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        levels: int = 4,
        size: int = 256,
        shared: bool = False,
        dropout: bool = False,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        eps: float = 1e-5,
        restart: float = 0.1,
        estimator: Estimator = "straight_through",
    ) -> None:
        super().__init__()
        at_least(levels, 1, f"{OPTIONS}.levels")
        self.channels, self.sizes, self.dropout = codebook_channels(channels), (size,) * levels, dropout
        self.books = nn.ModuleList(
            VectorQuantizer(self.channels, size=size, update=update, decay=decay, eps=eps, restart=restart)
            for _ in range(1 if shared else levels)
        )
        self.weights, self.estimator = self._own()[0].weights, codebooks.ESTIMATORS[estimator]

    def _own(self) -> list[VectorQuantizer]:
        """The codebooks, one for each level, or one for all."""
        return [cast(VectorQuantizer, book) for book in self.books]

    def _of_levels(self) -> list[VectorQuantizer]:
        """The codebook of each level."""
        return self._own() if len(self.books) == len(self.sizes) else self._own() * len(self.sizes)

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            vectors = residual = precise(z).movedim(1, -1)
            found: list[Tensor] = []
            indices: list[Tensor] = []
            penalties: dict[str, Tensor] = {}
            for book in self._of_levels():
                codes, index, terms = book.look_up(residual)
                residual = residual - codes.detach()
                found.append(codes.detach())
                indices.append(index)
                penalties = {name: penalties.get(name, 0) + term for name, term in terms.items()}
            code = self.estimator(vectors, self._kept(_partial_sums(found))).movedim(-1, 1)
        return Quantized(code, torch.stack(indices, 1), penalties)

    def _kept(self, sums: Tensor) -> Tensor:
        """The sum of all codes, or in training with dropout of a random number of the first: (L, ...) -> (...)."""
        if not (self.dropout and self.training):
            return sums[-1]
        depth = torch.randint(len(sums), (1,), device=sums.device)  # the same on all ranks
        return sums.index_select(0, depth)[0]

    def codes(self, indices: Tensor) -> Tensor:
        return self.partial_codes(indices)[-1]

    def partial_codes(self, indices: Tensor) -> Tensor:
        levels = zip(self._of_levels(), indices.split(1, 1), strict=True)
        return _partial_sums([book.codes(index) for book, index in levels])

    # start and update ------------------------------------------------------------------------------------------------

    @property
    def wants_images(self) -> int:
        return START_IMAGES if any(book.wants_images for book in self._own()) else 0

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Codes of each level from k-means of the residuals (N, c) of the levels before it.

        Levels that share their codes start with equal parts of them. ConfigError for fewer vectors than codes.
        """
        refuse_too_few(vectors, self.sizes[0])
        books, residual = self._own(), precise(vectors)
        if len(books) == len(self.sizes):
            for book in books:
                book.start(residual)
                residual = residual - _nearest(residual, book.codebook)
            return
        least, more = divmod(self.sizes[0], len(self.sizes))
        parts = list[Tensor]()
        for size in [least + (level < more) for level in range(len(self.sizes))]:
            if size:
                parts.append(books[0].fitted(residual, size))
                residual = residual - _nearest(residual, parts[-1])
        books[0].start_at(torch.cat(parts))

    def update(self, restarts: bool = True, next_step: int = 0) -> None:
        for book in self._own():
            book.update(restarts, next_step)

    def statistics(self) -> dict[str, Tensor]:
        parts = [book.statistics() for book in self._own()]
        return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def _nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    return codes[codebooks.nearest(vectors, codes)]


def _partial_sums(codes: Sequence[Tensor]) -> Tensor:
    """The first code, the sum of the first two, ...: L of (...) -> (L, ...). Always added in the same order."""
    return torch.stack(list(accumulate(codes)))
