"""Encoders and decoders: images to posterior parameters, codes to pixel parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.choices import NETWORKS
from vaezoo.config.errors import ConfigError
from vaezoo.config.shapes import is_table, refuse_table
from vaezoo.config.validation import at_least, check_arguments, one_of, within
from vaezoo.distributed import memory

ImageShape = tuple[int, int, int]
"""Channels, height and width."""

Networks = TypeVar("Networks", bound=tuple[nn.Module, ...])

LARGEST = 2**30
"""Maximum size of a layer or code; beyond it, the number of weights may overflow torch's counters."""

SMALLEST_GRID = 4
"""Pixels of the shorter side after the encoder's last stage, by default."""

SPATIAL_GRID = 8
"""The same for spatial codes: positions of the shorter side."""

FEWEST_HALVINGS = 2
"""Halvings for a spatial code of images that are large enough, so that it has fewer positions than they have pixels."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}
"""What may follow the hidden layers of an mlp."""


def make_networks(
    name: str,
    image_shape: ImageShape,
    latent_dim: int,
    features: int,
    widths: Sequence[int] | None = None,
    activation: type[nn.Module] = nn.ReLU,
) -> tuple[nn.Module, nn.Module]:
    """Encoder (B, C, H, W) -> (B, features) and mirrored decoder (B, latent_dim) -> (B, C, H, W).

    ``widths`` are the sizes of the encoder's hidden layers (mlp) or the channels of its stages, each of which halves
    the image (conv, resnet); None takes the defaults for the network and image size. ``activation`` is that of the mlp.
    ConfigError for an unknown name, an image below 8x8 pixels, too many stages, or a model that does not fit into
    memory.
    """
    _check(name, image_shape, widths)
    maker = partial(_mlp, activation) if name == "mlp" else partial(_flat, name)
    make = partial(maker, image_shape, latent_dim, features, widths)
    remedy = "choose a smaller model.latent_dim, model.widths or data.image_size, or a smaller network"
    return created(make, remedy)


def make_spatial_networks(
    name: str, image_shape: ImageShape, channels: int, features: int, widths: Sequence[int] | None = None
) -> tuple[nn.Module, nn.Module, ImageShape]:
    """Encoder (B, C, H, W) -> (B, features, h, w), decoder (B, channels, h, w) -> (B, C, H, W), and (channels, h, w).

    They have the stages of ``make_networks``, without its fully connected layers. ``widths`` are the channels of the
    stages, each of which halves the image; by default, as many as bring the shorter side closest to 8 positions.
    ConfigError as for ``make_networks``, and for mlp.
    """
    refuse_table(image_shape, "a spatial code", "choose a model with a flat code, such as vae")
    _check(name, image_shape, widths)
    if name == "mlp":
        raise ConfigError(
            "model.network=mlp has no grid of positions, which a spatial code needs; choose conv or resnet"
        )
    fewest = min(FEWEST_HALVINGS, halvings(image_shape))
    depth = max(fewest, halvings(image_shape, SPATIAL_GRID)) if widths is None else len(widths)
    size = _padded(image_shape, name, depth)
    make = partial(_spatial, name, image_shape, channels, features, widths, depth)
    remedy = "choose fewer channels of the code, smaller model.widths or data.image_size, or a smaller network"
    return *created(make, remedy), (channels, size[0] >> depth, size[1] >> depth)


def _check(name: str, image_shape: ImageShape, widths: Sequence[int] | None) -> None:
    one_of(name, NETWORKS, "model.network")
    channels, height, width = image_shape
    at_least(channels, 1, "data.channels")
    if name != "mlp":
        refuse_table(image_shape, f"model.network={name}", "choose mlp, or another model if it has no mlp")
    if not is_table(image_shape) and min(height, width) < 8:
        raise ConfigError(f"images must be at least 8x8 pixels, got {height}x{width}; set data.image_size")
    for size in widths or ():
        within(size, 1, LARGEST, "each of model.widths")


def created(make: Callable[[], Networks], remedy: str) -> Networks:
    """The networks of ``make`` with initial weights; ConfigError with ``remedy`` if they do not fit into memory."""
    if torch.empty(0).device.type != "meta":  # get_default_device of torch 2.6 ignores `with torch.device`
        _refuse_too_large(make, remedy)
    networks = make()
    for network in networks:
        network.apply(_initialise)
    return networks


def _refuse_too_large(make: Callable[[], tuple[nn.Module, ...]], remedy: str) -> None:
    """ConfigError for networks that do not fit into memory, counted on torch's meta device."""
    with torch.device("meta"):
        count = sum(parameter.numel() for network in make() for parameter in network.parameters())
    memory.refuse_beyond(4 * count, f"a model of {count:,} parameters", remedy)


def _initialise(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases: TensorFlow's defaults, which most published VAEs used."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# mlp -----------------------------------------------------------------------------------------------------------------

MLP_WIDTHS = (400,)


def activation_of(network: str, options: Mapping[str, Any] | None) -> type[nn.Module]:
    """What follows fully connected layers: the ``activation`` in the ``options`` of an mlp, else a ReLU.

    ConfigError for an unknown activation, or another option.
    """
    if network != "mlp" or not options:
        return nn.ReLU
    check_arguments(_named_activation, options, key="model.network_options")
    return _named_activation(**options)


def _named_activation(activation: str) -> type[nn.Module]:
    one_of(activation, ACTIVATIONS, "model.network_options.activation")
    return ACTIVATIONS[activation]


def _mlp(
    activation: type[nn.Module], image_shape: ImageShape, latent_dim: int, features: int, widths: Sequence[int] | None
) -> tuple[nn.Module, nn.Module]:
    widths = tuple(MLP_WIDTHS if widths is None else widths)
    downward = (math.prod(image_shape), *widths)
    upward = (latent_dim, *widths[::-1])
    encoder = nn.Sequential(nn.Flatten(), *dense(*downward, activation=activation), nn.Linear(downward[-1], features))
    to_pixels = nn.Linear(upward[-1], math.prod(image_shape))
    return encoder, nn.Sequential(*dense(*upward, activation=activation), to_pixels, nn.Unflatten(1, image_shape))


def dense(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """Fully connected layers from each size to the next, each followed by an activation."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes):
        layers += [nn.Linear(wide, narrow), activation()]
    return layers


# conv and resnet: stages that halve ----------------------------------------------------------------------------------


class Pad(nn.Module):
    """Pads images with zeros, or by another ``mode`` of torch's ``pad``: (B, C, H, W) -> (B, C, *size)."""

    def __init__(self, image_shape: ImageShape, size: tuple[int, int], mode: str = "constant") -> None:
        super().__init__()
        self.mode = mode
        height, width = size[0] - image_shape[1], size[1] - image_shape[2]
        self.border = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.border, self.mode) if any(self.border) else x


class Crop(nn.Module):
    """Removes the padding of ``Pad``: (B, C, *size) -> (B, C, H, W)."""

    def __init__(self, image_shape: ImageShape, size: tuple[int, int]) -> None:
        super().__init__()
        self.top, self.left = (size[0] - image_shape[1]) // 2, (size[1] - image_shape[2]) // 2
        self.height, self.width = image_shape[1:]

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


def halvings(image_shape: Sequence[int], grid: int = SMALLEST_GRID) -> int:
    """Number of halvings that bring the shorter side closest to ``grid`` pixels; for 4, 1 at 8x8 and 3 at 28x28."""
    return max(1, round(math.log2(min(image_shape[1:]) / grid)))


def _padded(image_shape: ImageShape, name: str, depth: int) -> tuple[int, int]:
    """Height and width rounded up to multiples of 2**depth; ConfigError if the image is too small for that depth."""
    height, width = image_shape[1:]
    step = 2**depth
    if depth < 1 or step > min(height, width):
        most = int(math.log2(min(height, width)))
        raise ConfigError(
            f"model.widths gives {name} {depth} stages, each of which halves the image; {height}x{width} pixels allow"
            f" 1 to {most}"
        )
    return -(-height // step) * step, -(-width // step) * step


class Stages(NamedTuple):
    """The convolutions of an encoder and a decoder, between padded images and a ``grid`` of (channels, h, w).

    ``opening`` is what the decoder's first stage needs after a convolution without activation.
    """

    size: tuple[int, int]
    grid: ImageShape
    downward: list[nn.Module]
    opening: list[nn.Module]
    upward: list[nn.Module]


def _conv(image_shape: ImageShape, widths: Sequence[int] | None, depth: int) -> Stages:
    """The network of Locatello et al. (2019) at 64x64, with the depth adapted to other sizes.

    The first half of the encoder's stages has 4x4 kernels (by default 32 channels), the second half 2x2 (64 channels);
    all decoder stages have 4x4.
    """
    wide_kernels = -(-depth // 2)
    widths = tuple([32] * wide_kernels + [64] * (depth - wide_kernels) if widths is None else widths)
    size = _padded(image_shape, "conv", depth)
    downward: list[nn.Module] = []
    for stage, (before, after) in enumerate(zip((image_shape[0], *widths), widths, strict=False)):
        kernel, padding = (4, 1) if stage < wide_kernels else (2, 0)
        downward += [nn.Conv2d(before, after, kernel, stride=2, padding=padding), nn.ReLU()]
    upward: list[nn.Module] = []
    for before, after in zip(widths[::-1], (*widths[-2::-1], image_shape[0]), strict=True):
        upward += [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    return Stages(size, (widths[-1], size[0] >> depth, size[1] >> depth), downward, upward[:1], upward[1:])


class ResidualBlock(nn.Module):
    """Pre-activation residual block with group norm: two 3x3 convolutions added to their input (He et al., 2016).

    (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _norm(channels: int) -> nn.GroupNorm:
    """Group norm, which unlike batch norm is the same in training and evaluation, and works for a single image."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _resnet(image_shape: ImageShape, widths: Sequence[int] | None, depth: int) -> Stages:
    """One residual block per stage; downsampling by strided, upsampling by nearest-neighbour and convolution."""
    widths = tuple([min(32 << stage, 128) for stage in range(depth)] if widths is None else widths)
    size = _padded(image_shape, "resnet", depth)
    downward: list[nn.Module] = []
    for before, after in zip((image_shape[0], *widths), widths, strict=False):
        downward += [nn.Conv2d(before, after, 4, stride=2, padding=1), ResidualBlock(after)]
    downward += [_norm(widths[-1]), nn.SiLU()]
    upward: list[nn.Module] = []
    for before, after in zip(widths[::-1], (*widths[-2::-1], widths[0]), strict=True):
        upward += [ResidualBlock(before), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
    upward += [_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], image_shape[0], 3, padding=1)]
    return Stages(size, (widths[-1], size[0] >> depth, size[1] >> depth), downward, [], upward)


_STAGES: dict[str, Callable[[ImageShape, Sequence[int] | None, int], Stages]] = {"conv": _conv, "resnet": _resnet}


def _flat(
    name: str, image_shape: ImageShape, latent_dim: int, features: int, widths: Sequence[int] | None
) -> tuple[nn.Module, nn.Module]:
    """Stages, joined to the code by a fully connected layer of 256 units."""
    depth = halvings(image_shape) if widths is None else len(widths)
    size, grid, downward, _, upward = _STAGES[name](image_shape, widths, depth)
    flat, hidden = math.prod(grid), 256
    encoder = nn.Sequential(
        Pad(image_shape, size), *downward, nn.Flatten(), *dense(flat, hidden), nn.Linear(hidden, features)
    )
    decoder = nn.Sequential(*dense(latent_dim, hidden, flat), nn.Unflatten(1, grid), *upward, Crop(image_shape, size))
    return _laid_out(name, encoder), _laid_out(name, decoder)


def _spatial(
    name: str, image_shape: ImageShape, channels: int, features: int, widths: Sequence[int] | None, depth: int
) -> tuple[nn.Module, nn.Module]:
    """Stages, joined to the code by a 1x1 convolution after the encoder's and a 3x3 one before the decoder's."""
    size, grid, downward, opening, upward = _STAGES[name](image_shape, widths, depth)
    encoder = nn.Sequential(Pad(image_shape, size), *downward, nn.Conv2d(grid[0], features, 1))
    entry = nn.Conv2d(channels, grid[0], 3, padding=1)
    decoder = nn.Sequential(entry, *opening, *upward, Crop(image_shape, size))
    return _laid_out(name, encoder), _laid_out(name, decoder)


class Labelled(nn.Sequential):
    """A network that also sees a label, as if its one-hot code were appended to the input of the first layer.

    A vector is extended by ``classes`` entries, an image or a spatial code by as many constant planes. The weights for
    them are a layer of its own, ``of_label``; while they are zero, outputs are those of the network, to the bit.
    """

    def __init__(self, network: nn.Sequential, classes: int) -> None:
        super().__init__(*network)
        kinds = (nn.Linear, nn.Conv2d)
        self.place, first = next((at, layer) for at, layer in enumerate(network) if isinstance(layer, kinds))
        if isinstance(first, nn.Linear):
            self.of_label: nn.Module = nn.Linear(classes, first.out_features, bias=False)
        else:
            size: dict[str, Any] = {name: getattr(first, name) for name in ("kernel_size", "stride", "padding")}
            self.of_label = nn.Conv2d(classes, first.out_channels, bias=False, **size)
        self.of_label.apply(_initialise)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Inputs (B, ...) and one-hot labels (B, classes) -> outputs (B, ...)."""
        for place, layer in enumerate(list(self)[:-1]):
            x = layer(x) + self._response(labels, x) if place == self.place else layer(x)
        return x

    def _response(self, labels: Tensor, x: Tensor) -> Tensor:
        """What the label adds to the outputs of the first layer."""
        if x.dim() == 2:
            return self.of_label(labels)
        classes = labels.shape[1]
        planes = torch.eye(classes, device=labels.device, dtype=labels.dtype)[..., None, None]
        of_classes = self.of_label(planes.expand(-1, -1, *x.shape[2:]))  # once for each class instead of each image
        return (labels @ of_classes.flatten(1)).unflatten(1, of_classes.shape[1:])


def last_weight(decoder: nn.Module) -> nn.Parameter:
    """The weight of a decoder's last layer."""
    return [weight for name, weight in decoder.named_parameters() if weight.dim() > 1 and "of_label" not in name][-1]


def last_bias(decoder: nn.Module) -> nn.Parameter | None:
    """The bias of a decoder's last layer, for each output or each of their channels; None if it has none."""
    biases = {id(layer.weight): layer.bias for layer in decoder.modules() if hasattr(layer, "bias")}
    bias = biases.get(id(last_weight(decoder)))
    return bias if isinstance(bias, nn.Parameter) else None


def _laid_out(name: str, network: nn.Module) -> nn.Module:
    """3x3 convolutions are a fifth faster on a CPU with channels last; the strided ones of conv are not."""
    return network.to(memory_format=torch.channels_last) if name == "resnet" else network
