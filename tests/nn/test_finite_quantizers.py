"""Finite scalar quantisation: codes, indices and gradients of the paper, and every code found again."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.config.errors import ConfigError
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.finite import FiniteScalarQuantizer

LEVELS = [8, 5, 5, 5]


def batch() -> Tensor:
    """z (6, 4, 1, 1), as in the recipe of the known values."""
    return torch.tensor(2 * np.random.RandomState(14).randn(6, 4)).float()[..., None, None]


def every_code(made: FiniteScalarQuantizer) -> tuple[Tensor, Tensor]:
    """All indices (K, 1, 1, 1), and their codes (K, c, 1, 1)."""
    indices = torch.arange(made.sizes[0])[:, None, None, None]
    return indices, made.codes(indices)


def test_codes_indices_and_gradients_are_the_known_ones(known: dict[str, Tensor]) -> None:
    made, z = FiniteScalarQuantizer(levels=LEVELS), batch().requires_grad_()
    found = made(z)
    close(found.code[..., 0, 0], known["fsq_codes"])
    assert torch.equal(found.indices[:, 0, 0, 0], known["fsq_indices"])
    assert torch.equal(found.code, made.codes(found.indices))
    close(torch.autograd.grad(found.code.sum(), z)[0][..., 0, 0], known["fsq_gradient"])
    assert not found.penalties
    assert not list(made.parameters())
    assert not made.state_dict()


def test_every_index_is_that_of_its_code(known: dict[str, Tensor]) -> None:
    made = FiniteScalarQuantizer(levels=LEVELS)
    indices, codes = every_code(made)
    assert [made.sizes[0], len(codes.unique(dim=0))] == known["fsq_size"].tolist()
    bounded = (codes * made.width + made.offset) / made.reach
    again = made(torch.atanh(bounded) - made.shift)
    assert torch.equal(again.indices, indices)
    assert torch.equal(again.code, codes)


@pytest.mark.parametrize("levels", [[3], [3, 4], [8, 6, 5], [7, 3, 4, 4]])
def test_codes_are_those_that_the_levels_say(levels: list[int]) -> None:
    """A level of each channel, all combinations once, the first channel fastest."""
    made = FiniteScalarQuantizer(levels=levels)
    codes = every_code(made)[1][..., 0, 0]
    wanted = torch.cartesian_prod(*(torch.tensor(values) for values in made.channel_levels[::-1])).view(len(codes), -1)
    assert torch.equal(codes, wanted.flip(1))
    assert [len(values) for values in made.channel_levels] == levels
    for channel, (values, size) in enumerate(zip(made.channel_levels, levels, strict=True)):
        assert torch.equal(codes[:, channel].unique(), torch.tensor(values))
        assert values[-1] - values[0] == pytest.approx((size - 1) / (size // 2))


@pytest.mark.parametrize("levels", [LEVELS, [4, 3, 8]])
def test_points_between_codes_are_moved_to_the_nearest_one(levels: list[int]) -> None:
    made = FiniteScalarQuantizer(levels=levels)
    codes = every_code(made)[1][..., 0, 0]
    points = 1.5 * torch.randn(50, len(levels))
    nearest = codes[torch.cdist(points, codes).argmin(1)]
    assert torch.equal(made.project(points[..., None, None])[..., 0, 0], nearest)
    assert torch.equal(made.project(codes[..., None, None])[..., 0, 0], codes)


def test_a_path_begins_where_its_code_is_the_nearest() -> None:
    made, z = FiniteScalarQuantizer(levels=LEVELS), 5 * torch.randn(20, 4, 3, 2)
    assert torch.equal(made.project(made.path(z)), made(z).code)
    assert made.path(z).abs().max() < 1.3


def test_half_precision_uses_as_many_codes_as_single_precision() -> None:
    """In bfloat16, whose steps near 128 are 1, tanh times 500 would miss every other level."""
    z = torch.linspace(-3, 3, 4001).view(-1, 1, 1, 1)
    made = FiniteScalarQuantizer(levels=[1001])
    with torch.autocast("cpu", torch.bfloat16):
        found = made(z)
    assert found.code.dtype == torch.float32
    assert torch.equal(found.indices, made(z).indices)
    assert len(made(z.bfloat16()).indices.unique()) > 300


@pytest.mark.parametrize(
    ("channels", "levels", "message"),
    [
        (None, [8, 2], r"each of model.quantizer_options.levels must be at least 3, got 2; .* model.quantizer=lfq"),
        (None, [], "model.quantizer_options.levels must have a number for each channel"),
        (None, [8] * 6, r"the product of model.quantizer_options.levels, must be at most 65,536, got 262,144"),
        (16, [8, 8, 8], "model.code_channels must be 3, which follows from .*levels, got 16; set it to null"),
        (None, [8.0], "model.quantizer_options.levels must be"),
    ],
)
def test_impossible_levels_are_refused(channels: int | None, levels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_quantizer("fsq", channels, {"levels": levels})
    assert make_quantizer("fsq", 3, {"levels": [8, 8, 8]}).channels == 3


def test_vector_quantize_pytorch_has_the_same_opinion() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="needs the package vector-quantize-pytorch")
    z = 2 * torch.randn(3, 4, 5, 5)
    codes, indices = library.FSQ(LEVELS)(z)
    found = FiniteScalarQuantizer(levels=LEVELS)(z)
    close(found.code, codes)
    assert torch.equal(found.indices[:, 0], indices.long())
