"""Encoders, decoders and codebooks of diffusers' autoencoders, for pixels in [0, 1] and images of any size.

diffusers takes seconds to import, so that only functions do so. What is not an autoencoder on the list here is never
created, whatever a file asks for.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import need
from vaezoo.config.validation import one_of
from vaezoo.nn.networks import Crop, ImageShape, Pad
from vaezoo.nn.quantizers.base import Quantized, Quantizer

STAGES = {
    "AutoencoderKL": "block_out_channels",
    "AutoencoderTiny": "encoder_block_out_channels",
    "AutoencoderDC": "encoder_block_out_channels",
    "VQModel": "block_out_channels",
}
"""The classes of diffusers that may be created, and the setting that lists the stages of each, between which images are
halved."""

BLOCKS = ("layers_per_block", "num_encoder_blocks", "num_decoder_blocks")
"""Ends of the names of settings with numbers of blocks."""

LOGVAR_RANGE = [-30.0, 20.0]
"""Ends of the log variances of diffusers' posteriors."""

PIXELS = 2**19
"""Pixels that networks process at once, eight images of 256x256: their features take a thousand times the memory."""

MOST_BLOCKS = 64
"""Blocks of a stage: creating a network takes time, even without memory for its weights."""

DISTANCES = 2**26
"""Distances between vectors and codes that are held at once."""


def diffusers_class(name: str) -> Any:
    """The class of diffusers called ``name``; ConfigError if it is not in ``STAGES``, or if diffusers is missing."""
    one_of(name, STAGES, "model.network")
    return getattr(need("diffusers", "pretrained"), name)


def make_network(name: str, options: Mapping[str, Any]) -> Any:
    """An autoencoder of diffusers with initial weights; ``options`` are those of its ``config.json``.

    ConfigError for a class that is not in ``STAGES``, options that do not fit it, or without diffusers.
    """
    cls = diffusers_class(name)
    for key, value in options.items():
        counts = value if isinstance(value, list | tuple) else [value]
        if key.endswith(BLOCKS) and any(isinstance(count, int) and count > MOST_BLOCKS for count in counts):
            raise ConfigError(f"the settings of {name} ask for more than {MOST_BLOCKS} blocks ({key}); adopt another")
    try:
        with quiet():
            return cls.from_config({key: value for key, value in options.items() if not key.startswith("_")})
    except Exception as error:  # diffusers raises many types for wrong options
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"the settings of {name} do not fit the installed diffusers: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' warnings, such as that of a setting which another version has."""
    logger = logging.getLogger("diffusers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class Parts(NamedTuple):
    """What a model is made of: networks, the shape of codes, and the codes of a discrete model, or None."""

    encoder: "PretrainedEncoder"
    decoder: "PretrainedDecoder"
    code_shape: ImageShape
    quantizer: "PretrainedQuantizer | None"


def split(network: Any, image_shape: ImageShape) -> Parts:
    """The parts of an autoencoder of diffusers, with its weights, for images of a shape (C, H, W).

    ConfigError if its images have other channels; those of grey images are repeated for one of three channels.
    """
    name, config = type(network).__name__, network.config
    channels = config["in_channels"]
    if config.get("out_channels", channels) != channels:
        raise ConfigError(
            f"{name} takes images of {channels} channels and gives {config['out_channels']}, so it is no autoencoder of"
            " images; choose another folder"
        )
    if image_shape[0] != channels and (image_shape[0], channels) != (1, 3):
        grey = "1 or 3" if channels == 3 else str(channels)
        raise ConfigError(
            f"this {name} is for images of {grey} channels, and these have {image_shape[0]}; set data.channels to"
            f" {channels}"
        )
    factor = 2 ** (len(config[STAGES[name]]) - 1)
    size = (-(-image_shape[1] // factor) * factor, -(-image_shape[2] // factor) * factor)
    book = getattr(network, "quantize", None)
    quantizer = None if book is None else PretrainedQuantizer(book.embedding.weight)
    of_code = config["latent_channels"] if quantizer is None else quantizer.channels
    encoder = PretrainedEncoder(network, image_shape, size, channels)
    return Parts(
        encoder, PretrainedDecoder(network, image_shape, size), (of_code, *(side // factor for side in size)), quantizer
    )


class PretrainedEncoder(nn.Module):
    """Images with pixels in [0, 1] to what diffusers' encoder gives at each position: (B, C, H, W) -> (B, F, h, w).

    Images are padded by repeating their borders, and scaled to [-1, 1].
    """

    def __init__(self, network: Any, image_shape: ImageShape, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.pad, self.channels = Pad(image_shape, size, mode="replicate"), channels
        self.encoder = network.encoder
        self.quant_conv = getattr(network, "quant_conv", None) or nn.Identity()
        self.at_once = max(1, PIXELS // (size[0] * size[1]))

    def forward(self, x: Tensor) -> Tensor:
        return _in_parts(self._encode, x, self.at_once)

    def _encode(self, x: Tensor) -> Tensor:
        found: Tensor = self.quant_conv(self.encoder((2 * self.pad(x) - 1).expand(-1, self.channels, -1, -1)))
        return found


class PretrainedDecoder(nn.Module):
    """Codes to images with pixels in [0, 1], clamped: (B, c, h, w) -> (B, C, H, W). Grey images are averaged."""

    def __init__(self, network: Any, image_shape: ImageShape, size: tuple[int, int]) -> None:
        super().__init__()
        self.crop, self.grey = Crop(image_shape, size), image_shape[0] == 1
        self.post_quant_conv = getattr(network, "post_quant_conv", None) or nn.Identity()
        self.decoder = network.decoder
        self.sees_code = network.config.get("norm_type") == "spatial"  # in its norms, as in MoVQ
        self.at_once = max(1, PIXELS // (size[0] * size[1]))

    def forward(self, code: Tensor) -> Tensor:
        return _in_parts(self._decode, code, self.at_once)

    def _decode(self, code: Tensor) -> Tensor:
        pixels = self.decoder(self.post_quant_conv(code), *((code,) if self.sees_code else ()))
        pixels = self.crop(0.5 * pixels + 0.5).clamp(0, 1)
        found: Tensor = pixels.mean(1, keepdim=True) if self.grey else pixels
        return found


class PretrainedQuantizer(Quantizer):
    """Nearest codes in the codebook of diffusers' ``VQModel``, without penalties.

    Args:
        codebook: its codes (K, c).
    """

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.codebook = nn.Parameter(codebook.detach().clone())
        self.sizes, self.channels = (len(codebook),), codebook.shape[1]

    def forward(self, z: Tensor) -> Quantized:
        indices = self.indices_of(z)
        return Quantized(self.codes(indices) + (z - z.detach()), indices, {})

    def indices_of(self, code: Tensor) -> Tensor:
        at_once = max(1, DISTANCES // (code[0, 0].numel() * len(self.codebook)))
        return _in_parts(self._nearest, code, at_once)

    def _nearest(self, z: Tensor) -> Tensor:
        vectors = z.movedim(1, -1)
        found = torch.cdist(vectors.flatten(0, -2), self.codebook).argmin(1)  # as diffusers does
        return found.view(-1, 1, *vectors.shape[1:-1])

    def codes(self, indices: Tensor) -> Tensor:
        return self.codebook[indices[:, 0]].movedim(-1, 1)


def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor, at_once: int) -> Tensor:
    """A function of a batch, applied to at most so many rows at once; to all of them within compiled programs."""
    if torch.compiler.is_compiling() or len(x) <= at_once:
        return function(x)
    return torch.cat([function(part) for part in x.split(at_once)])


def digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors with their names, types and shapes, in hexadecimal."""
    found = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous()
        found.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        found.update(memoryview(values.flatten().view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return found.hexdigest()
