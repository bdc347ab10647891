"""LPIPS (Zhang et al., 2018): features of AlexNet or VGG16 with channel weights fitted to human judgements."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaezoo.config import pretrained
from vaezoo.nn.networks import ImageShape
from vaezoo.nn.perceptual.base import OPTIONS, FeatureDistance

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pixels in [-1, 1], as in the code of the paper."""


class Backbone(nn.Module):
    """The convolutions of a classifier: pixels in [0, 1] to its features after the layers ``taps``."""

    shift: Tensor
    scale: Tensor

    def __init__(self, layers: nn.Sequential, taps: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.taps = layers[: max(taps) + 1], tuple(taps)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        hidden, found = (2 * pixels - 1 - self.shift) / self.scale, []
        for at, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if at in self.taps:
                found.append(hidden)
        return found


class LPIPS(FeatureDistance):
    """LPIPS, version 0.1, with the linear weights that torchmetrics brings along.

    Args:
        backbone: path of torchvision's weights of the classifier; None to look for them in torch's own folder. They are
            never downloaded.
    """

    calibrated_side = 64
    architecture: str
    file: str
    """torchvision's name for the weights on ImageNet; it ends in the start of their SHA-256."""
    head: str
    head_sha256: str
    taps: tuple[int, ...]

    def __init__(self, image_shape: ImageShape, *, backbone: str | None = None, **options: Any) -> None:
        super().__init__(image_shape, **options)
        self.backbone = backbone

    def make_network(self) -> tuple[nn.Module, list[Tensor]]:
        import torchvision

        remedy = f"set {OPTIONS}.backbone=PATH or evaluate.lpips_backbone=PATH, or use lite0"
        path = pretrained.of_torchvision(self.file, self.backbone, remedy)
        read = pretrained.read(path, self.version)
        with torch.device("meta"):  # neither memory for the classifier, nor random numbers
            layers = getattr(torchvision.models, self.architecture)(weights=None).features
        prefix = "features."
        features = {key.removeprefix(prefix): values for key, values in read.items() if key.startswith(prefix)}
        layers.load_state_dict(features, assign=True)
        folder = "functional/image/lpips_models"
        heads = pretrained.read(pretrained.in_package("torchmetrics", f"{folder}/{self.head}"), self.head_sha256)
        weights = [heads[f"lin{depth}.model.1.weight"].flatten() for depth in range(len(self.taps))]
        return Backbone(layers, self.taps), weights

    @property
    def version(self) -> str:
        return self.file.rpartition("-")[2].partition(".")[0]

    def describe(self) -> str:
        return f"LPIPS with {self.architecture}, SHA-256 {self.version}"


class LPIPSVGG(LPIPS):
    """LPIPS with VGG16, the usual one for training."""

    name = "lpips_vgg"
    least_side = 16
    architecture, file = "vgg16", "vgg16-397923af.pth"
    head, head_sha256 = "vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
    taps = (3, 8, 15, 22, 29)


class LPIPSAlex(LPIPS):
    """LPIPS with AlexNet, the usual one for evaluation."""

    name = "lpips_alex"
    least_side = 31
    architecture, file = "alexnet", "alexnet-owt-7be5be79.pth"
    head, head_sha256 = "alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    taps = (1, 4, 7, 9, 11)
