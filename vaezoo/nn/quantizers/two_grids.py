"""The quantiser of two grids, of which the finer one depends on the codes of the coarser one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.nn.index_layout import IndexGrid, IndexLayout
from vaezoo.nn.networks import ResidualBlock, created
from vaezoo.nn.quantizers.base import Quantized, Quantizer, precise


class TwoGridQuantizer(Quantizer):
    """A grid ``top`` with half the height and width, rounded up, above that of the encoder, ``bottom``.

    As in VQ-VAE-2 (Razavi et al., 2019, section 3.1): the top's vectors are computed from the encoder's outputs, and
    the bottom's from these and the codes of the top. The gradient of the bottom reaches the top through the estimator
    of its codes. A code is flat, the top before the bottom, each with channels first, and so are points of paths;
    indices are as in ``IndexLayout``. Penalties are those of both grids, added up.

    Args:
        make: creates the quantiser of a grid.
        width: channels of the encoder's outputs, and of the layers between the grids.

    Raises:
        ConfigError: a quantiser that draws codes, or layers that do not fit into memory.
    """

    def __init__(self, make: Callable[[], Quantizer], width: int) -> None:
        super().__init__()
        self.top, self.bottom, self.width = make(), make(), width
        if self.top.draws:
            raise ConfigError(
                "model.quantizer must give one code for each vector, because the codes of the bottom depend on those of"
                " the top; choose one that does not draw codes, such as vq"
            )
        self.channels = self.top.channels + self.bottom.channels
        self.commits, self.weights = self.top.commits, self.top.weights
        self.batch_statistics = self.top.batch_statistics
        self.down, self.up, self.joined, self.spread = created(self._layers, "choose a smaller model.grid_width")
        self.grids: list[tuple[int, int, int]] = []

    def _layers(self) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """The top's vectors from the encoder's outputs; codes of the top on the bottom's grid, as the bottom's encoder
        and as the decoder see them; the bottom's vectors."""
        width, channels = self.width, self.top.channels
        down = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            ResidualBlock(width),
            nn.SiLU(),
            nn.Conv2d(width, self.top.features, 1),
        )
        up = nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1)
        joined = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            ResidualBlock(width),
            nn.SiLU(),
            nn.Conv2d(width, self.bottom.features, 1),
        )
        return down, up, joined, nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    @property
    def features(self) -> int:
        return self.width

    def lay_out(self, height: int, width: int) -> tuple[tuple[int, ...], IndexLayout]:
        sizes = {"top": (-(-height // 2), -(-width // 2)), "bottom": (height, width)}
        parts = {"top": self.top, "bottom": self.bottom}
        self.grids = [(part.channels, *sizes[name]) for name, part in parts.items()]
        layout = IndexLayout({name: IndexGrid(part.sizes, *sizes[name]) for name, part in parts.items()})
        self.layout, self.sizes = layout, layout.sizes
        return (sum(map(math.prod, self.grids)),), layout

    # from encoder outputs to codes ------------------------------------------------------------------------------------

    def _of_top(self, z: Tensor) -> Tensor:
        """The top's vectors, (B, F, h, w) -> (B, f, h/2, w/2)."""
        found: Tensor = self.down(z)
        return precise(found)

    def _of_bottom(self, z: Tensor, top: Tensor) -> Tensor:
        """The bottom's vectors (B, f, h, w), given the codes of the top (B, c, h/2, w/2)."""
        found: Tensor = self.joined(torch.cat([z, self._on_bottom(self.up, top, z.dtype)], 1))
        return precise(found)

    def _on_bottom(self, layer: nn.Module, top: Tensor, dtype: torch.dtype) -> Tensor:
        """Codes of the top on the grid of the bottom, which may have an odd number of rows or columns."""
        _, height, width = self.grids[1]
        found: Tensor = layer(top.to(dtype))
        return found[..., :height, :width].to(dtype)

    def _in_own_precision(self, z: Tensor) -> Tensor:
        """Encoder outputs in the precision of the layers."""
        return z.to(next(self.down.parameters()).dtype)

    def forward(self, z: Tensor) -> Quantized:
        z = self._in_own_precision(z)
        top = self.top(self._of_top(z))
        bottom = self.bottom(self._of_bottom(z, top.code))
        penalties = {name: term + bottom.penalties[name] for name, term in top.penalties.items()}
        code = torch.cat([top.code.flatten(1), bottom.code.flatten(1)], 1)
        return Quantized(code, self.layout.joined(top.indices, bottom.indices), penalties)

    def path(self, z: Tensor) -> Tensor:
        z = self._in_own_precision(z)
        of_top = self._of_top(z)
        of_bottom = self._of_bottom(z, self.top(of_top).code)
        return torch.cat([self.top.path(of_top).flatten(1), self.bottom.path(of_bottom).flatten(1)], 1)

    # from codes and indices -------------------------------------------------------------------------------------------

    def split(self, code: Tensor) -> list[Tensor]:
        """Codes or points of the grids, (B, D) -> (B, c, h/2, w/2) and (B, c, h, w)."""
        parts = code.split([math.prod(grid) for grid in self.grids], 1)
        return [part.unflatten(1, grid) for part, grid in zip(parts, self.grids, strict=True)]

    def on_one_grid(self, code: Tensor) -> Tensor:
        """What a decoder sees, the codes of the top above each position beside those of the bottom:
        (B, D) -> (B, channels, h, w)."""
        top, bottom = self.split(code)
        return torch.cat([self._on_bottom(self.spread, top, code.dtype), bottom], 1)

    def codes(self, indices: Tensor) -> Tensor:
        parts = zip((self.top, self.bottom), self.layout.split(indices), strict=True)
        return torch.cat([part.codes(found).flatten(1) for part, found in parts], 1)

    def project(self, code: Tensor) -> Tensor:
        parts = zip((self.top, self.bottom), self.split(code), strict=True)
        return torch.cat([part.project(found).flatten(1) for part, found in parts], 1)

    def indices_of(self, code: Tensor) -> Tensor:
        parts = zip((self.top, self.bottom), self.split(code), strict=True)
        return self.layout.joined(*(part.indices_of(found) for part, found in parts))

    # start and update -------------------------------------------------------------------------------------------------

    @property
    def wants_images(self) -> int:
        return max(self.top.wants_images, self.bottom.wants_images)

    @torch.no_grad()
    def start_from(self, z: Tensor) -> None:
        """Start the top, and then the bottom with the vectors that follow from the codes of the top."""
        was, z = self.training, self._in_own_precision(z)
        of_top = self._of_top(z)
        self.top.start_from(of_top)
        codes = self.top.eval()(of_top).code  # gathers nothing for the first update
        self.top.train(was)
        self.bottom.start_from(self._of_bottom(z, codes))

    def update(self, restarts: bool = True, next_step: int = 0) -> None:
        for part in (self.top, self.bottom):
            part.update(restarts, next_step)

    def weights_at(self, step: int) -> dict[str, float]:
        return self.top.weights_at(step)

    def formula(self) -> str:
        return self.top.formula()

    def statistics(self) -> dict[str, Tensor]:
        parts = {"top": self.top.statistics(), "bottom": self.bottom.statistics()}
        return {f"{name}_{grid}": value for grid, part in parts.items() for name, value in part.items()}
