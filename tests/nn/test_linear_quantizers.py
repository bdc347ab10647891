"""SimVQ: a learned map of constant codes, all of which move whenever one is used."""

import numpy as np
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.nn.quantizers.linear import LinearCodebookQuantizer


def batch() -> tuple[Tensor, LinearCodebookQuantizer]:
    """z (2, 3, 2, 2), and a quantiser with six codes, as in the recipe of the known values."""
    draw = np.random.RandomState(16).randn
    z, constant, matrix = (torch.tensor(draw(*size)).float() for size in ((2, 3, 2, 2), (6, 3), (3, 3)))
    made = LinearCodebookQuantizer(3, size=6)
    made.constant.copy_(constant)
    with torch.no_grad():
        made.map.copy_(matrix)
    return z, made


def test_the_gradient_of_the_map_is_the_known_one(known: dict[str, Tensor]) -> None:
    z, made = batch()
    (found,) = torch.autograd.grad(made(z).penalties["codebook"].mean(), made.map)
    close(found, known["simvq_gradient_W"])


def test_codes_are_the_nearest_of_the_mapped_ones() -> None:
    z, made = batch()
    found, codes = made(z), made.constant @ made.map.T
    vectors = z.movedim(1, -1).flatten(0, -2)
    nearest = torch.cdist(vectors, codes).argmin(1)
    assert torch.equal(found.indices.flatten(), nearest)
    assert torch.equal(found.code, made.codes(found.indices))
    distances = (vectors - codes[nearest]).square().view(2, 4, 3).sum((1, 2))
    for penalty in found.penalties.values():
        close(penalty, distances)


def test_every_code_moves_when_one_is_used() -> None:
    _, made = batch()
    before = made.current_codes().detach()
    one = before[2].view(1, 3, 1, 1) + 0.01
    made(one).penalties["codebook"].mean().backward()
    with torch.no_grad():
        made.map -= made.map.grad
    assert ((made.current_codes() - before).abs().amax(1) > 0).all()


def test_only_the_map_is_learned_and_starts_near_the_identity() -> None:
    made = LinearCodebookQuantizer(64, size=2000)
    assert [name for name, _ in made.named_parameters()] == ["map"]
    assert (made.map - torch.eye(64)).std().item() < 0.02
    assert abs(made.constant.var().item() * 64 - 1) < 0.02
    assert made.wants_images == 0
    assert made.formula() == " + codebook"
