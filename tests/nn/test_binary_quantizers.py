"""Binary quantisation: signs and their indices, and entropies by brute force over all corners."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.config.errors import ConfigError
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.binary import (
    BinaryQuantizer,
    BinarySphericalQuantizer,
    LookupFreeQuantizer,
    entropy_of_bits,
    entropy_of_mean,
)


def batch() -> Tensor:
    """z (6, 4, 1, 1), as in the recipe of the known values."""
    return torch.tensor(np.random.RandomState(15).randn(6, 4)).float()[..., None, None]


def of_corners(vectors: Tensor, scale: float, tau: float) -> tuple[Tensor, Tensor]:
    """Entropies by softmax over all corners: of each vector (M, d) -> (M,), and of the mean ()."""
    corners = scale * torch.tensor(list(product((-1.0, 1.0), repeat=vectors.shape[1])))
    shares = (-torch.cdist(vectors, corners).square() / tau).softmax(1)
    return torch.special.entr(shares).sum(1), torch.special.entr(shares.mean(0)).sum()


KINDS = [LookupFreeQuantizer(bits=4), BinarySphericalQuantizer(bits=4)]


@pytest.mark.parametrize(("made", "name"), list(zip(KINDS, ("lfq", "bsq"), strict=True)), ids=["lfq", "bsq"])
def test_entropies_are_the_known_ones(made: BinaryQuantizer, name: str, known: dict[str, Tensor]) -> None:
    logits = 4 * made.scale / made.tau * made.prepared(batch())[..., 0, 0]
    of_mean = entropy_of_mean(logits[:, None], joint=True)
    close(torch.stack([entropy_of_bits(logits).sum(1).mean(), of_mean]), known[f"{name}_entropies"])
    if name == "bsq":
        close(made(batch()).code[..., 0, 0], known["bsq_codes"])


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_the_penalty_is_that_of_all_corners(name: str, bits: int) -> None:
    """With gradients; for bsq, the entropy of the mean is the sum of those of the bits."""
    options = {"bits": bits, "tau": 0.7, "gamma": 0.6}
    made: Any = make_quantizer(name, None, options)
    z = torch.randn(3, bits, 2, 2, requires_grad=True)
    vectors = made.prepared(z).movedim(1, -1).flatten(0, -2)
    each, of_mean = of_corners(vectors, made.scale, 0.7)
    of_bits = sum(of_corners(bit, made.scale, 0.7)[1] for bit in vectors.split(1, 1))
    assert of_bits >= of_mean - 1e-6
    wanted = each.view(3, 4).sum(1) - 0.6 * 4 * (of_mean if name == "lfq" else of_bits)
    found = made(z).penalties["entropy"]
    close(found, wanted)
    gradients = [torch.autograd.grad(value.mean(), z, retain_graph=True)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_entropies_of_certain_bits_are_zero_with_finite_gradients() -> None:
    logits = torch.tensor([-1e6, -100.0, 0.0, 100.0, 1e6], requires_grad=True)
    found = entropy_of_bits(logits)
    close(found, torch.tensor([0, 0, np.log(2), 0, 0]))
    of_mean = entropy_of_mean(logits[None, :, None], joint=True)
    close(of_mean, torch.tensor(np.log(2)))  # half of the mass on either side
    assert torch.autograd.grad(found.sum() + of_mean, logits)[0].isfinite().all()
    for joint in (False, True):
        same = torch.full((2, 3, 4), 100.0, requires_grad=True)
        assert torch.autograd.grad(entropy_of_mean(same, joint=joint), same)[0].isfinite().all()


@pytest.mark.parametrize("made", KINDS, ids=["lfq", "bsq"])
def test_every_index_is_that_of_its_code(made: BinaryQuantizer) -> None:
    indices = torch.arange(16)[:, None, None, None]
    codes = made.codes(indices)
    assert len(codes.unique(dim=0)) == made.sizes[0] == 16
    assert codes[1, :, 0, 0].sign().tolist() == [1, -1, -1, -1]  # the first channel counts least
    close(codes.square().sum(1), torch.full((16, 1, 1), 4 * made.scale**2))
    for z in (codes, 3 * codes):
        found = made(z)
        assert torch.equal(found.indices, indices)
        assert torch.equal(found.code, codes)
        assert torch.equal(made.project(z), codes)


@pytest.mark.parametrize("made", KINDS, ids=["lfq", "bsq"])
def test_codes_are_the_nearest_corners_and_zero_is_positive(made: BinaryQuantizer) -> None:
    z = torch.randn(5, 4, 3, 2)
    corners = made.codes(torch.arange(16)[:, None, None, None])[..., 0, 0]
    vectors = made.prepared(z).movedim(1, -1).flatten(0, -2)
    assert torch.equal(made(z).indices.flatten(), torch.cdist(vectors, corners).argmin(1))
    assert (made(torch.zeros(1, 4, 1, 1)).code == made.scale).all()
    assert torch.equal(made.project(made.path(z)), made(z).code)


def test_gradients_are_those_of_the_vectors() -> None:
    """lfq: the identity, and 2 (z - sign z) of the commitment; bsq: that of the projection onto the sphere."""
    z, weights = batch().requires_grad_(), torch.randn(6, 4, 1, 1)
    found = LookupFreeQuantizer(bits=4)(z)
    assert torch.equal(torch.autograd.grad((weights * found.code).sum(), z, retain_graph=True)[0], weights)
    commitment = found.penalties["commitment"]
    close(commitment, (z - z.sign()).square().sum((1, 2, 3)))
    close(torch.autograd.grad(commitment.sum(), z)[0], 2 * (z - z.sign()))
    found = BinarySphericalQuantizer(bits=4)(z)
    assert found.penalties.keys() == {"entropy"}
    wanted = torch.autograd.grad((weights * z / z.norm(dim=1, keepdim=True)).sum(), z)[0]
    close(torch.autograd.grad((weights * found.code).sum(), z)[0], wanted)


@pytest.mark.parametrize(
    ("name", "options", "channels", "message"),
    [
        ("lfq", {"bits": 0}, None, "model.quantizer_options.bits must be at least 1, got 0"),
        ("lfq", {"bits": 17}, None, "model.quantizer_options.bits must be at most 16, got 17"),
        ("bsq", {"tau": 0.0}, None, "model.quantizer_options.tau must be above 0"),
        ("bsq", {"gamma": -1.0}, None, "model.quantizer_options.gamma must be at least 0"),
        ("lfq", {"entropy_weight": -1.0}, None, "model.quantizer_options.entropy_weight must be at least 0"),
        ("bsq", {}, 16, "model.code_channels must be 10, which follows from .*bits, got 16; set it to null"),
        ("lfq", {"size": 1024}, None, "model.quantizer_options.size is not a setting here"),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, Any], channels: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_quantizer(name, channels, options)


def test_vector_quantize_pytorch_has_the_same_opinion() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="needs the package vector-quantize-pytorch")
    theirs = library.LFQ(codebook_size=16, dim=4, entropy_loss_weight=1.0, commitment_loss_weight=0.0)
    z = batch()
    result, parts = theirs(z, inv_temperature=1.0, return_loss_breakdown=True)
    found = LookupFreeQuantizer(bits=4)(z)
    close(found.code, result.quantized)
    close(found.penalties["entropy"].mean(), parts.per_sample_entropy - parts.batch_entropy)
