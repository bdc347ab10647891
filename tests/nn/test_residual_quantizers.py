"""Residual quantisation: levels refine each other, one level is vector quantisation, and the sum has one gradient."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.config.errors import ConfigError
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.residual import ResidualQuantizer
from vaezoo.nn.quantizers.vector import VectorQuantizer


def batch() -> tuple[Tensor, list[Tensor]]:
    """z (2, 3, 2, 2) and the codes (4, 3) of three levels, as in the recipe of the known values."""
    draw = np.random.RandomState(13).randn
    z = torch.tensor(draw(2, 3, 2, 2)).float()
    return z, [scale * torch.tensor(draw(4, 3)).float() for scale in (1, 0.5, 0.25)]


def quantizer(books: list[Tensor], **options: Any) -> ResidualQuantizer:
    """A residual quantiser with these codes, each with a count of 1."""
    options = {"restart": 0.0, "levels": len(books), **options}
    made = ResidualQuantizer(books[0].shape[1], size=len(books[0]), **options)
    for book, codes in zip(made._own(), books, strict=False):
        book.start_at(codes)
    return made


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_indices_residual_and_commitment_are_the_known_ones(update: str, known: dict[str, Tensor]) -> None:
    z, books = batch()
    made = quantizer(books, update=update)
    found = made(z)
    assert torch.equal(found.indices, known["rvq_indices"])
    close((z - found.code).square().sum((1, 2, 3)).mean(), known["rvq_residual"])
    close(found.penalties["commitment"].mean(), known["rvq_commitment"])
    assert torch.equal(found.code, made.codes(found.indices))
    assert found.penalties.keys() == ({"commitment"} if update == "ema" else {"commitment", "codebook"})


def test_codes_of_the_first_levels_are_sums_of_their_codes() -> None:
    z, books = batch()
    made = quantizer(books)
    indices = made(z).indices
    partial = made.partial_codes(indices)
    of_levels = [book[indices[:, level]].movedim(-1, 1) for level, book in enumerate(books)]
    for depth in range(3):
        close(partial[depth], torch.stack(of_levels[: depth + 1]).sum(0))
    assert torch.equal(partial[-1], made.codes(indices))
    assert VectorQuantizer(3).partial_codes(indices) is None


def test_restarts_are_counted_over_levels() -> None:
    made = ResidualQuantizer(3, size=4, levels=2)
    for book, count in zip(made.books, (1.0, 2.0), strict=True):
        book.get_buffer("restarted").fill_(count)
    assert made.statistics() == {"restarts": 3}
    assert ResidualQuantizer(3, size=4, levels=2, update="gradient").statistics() == {}


def test_after_a_start_residuals_become_smaller_with_depth() -> None:
    vectors = torch.randn(400, 3)
    for shared in (False, True):
        made = ResidualQuantizer(3, levels=4, size=10, shared=shared)
        assert made.wants_images > 0
        made.start(vectors)
        assert made.wants_images == 0
        z = vectors.T.view(1, 3, 20, 20)
        depths = (made.eval().partial_codes(made(z).indices) - z).square().mean((1, 2, 3, 4)).tolist()
        assert all(deeper < 0.8 * before for before, deeper in pairwise(depths)), depths


def test_one_level_is_a_vector_quantiser() -> None:
    """Codes, penalties and, after the updates of two batches, moving averages."""
    z, books = batch()
    results = []
    for made in (quantizer(books[:1], restart=0.5, decay=0.7), VectorQuantizer(3, size=4, restart=0.5, decay=0.7)):
        torch.manual_seed(3)
        book = made if isinstance(made, VectorQuantizer) else made._own()[0]
        book.start_at(books[0])
        for part in z.split(1):
            found = made(part)
            made.update()
        results.append((*found[:2], found.penalties["commitment"], book.codebook, book.counts))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_the_gradient_of_the_sum_is_the_identity_and_that_of_penalties_has_every_level() -> None:
    """d/dz sum_m |r_(m-1) - sg(e_m)|^2 = 2 sum_m r_m, with r_m the residual after level m."""
    z, books = batch()
    made, z = quantizer(books, update="gradient"), z.requires_grad_()
    found, weights = made(z), torch.randn(2, 3, 2, 2)
    (for_z,) = torch.autograd.grad((weights * found.code).sum(), z, retain_graph=True)
    assert torch.equal(for_z, weights)
    residuals = z - made.partial_codes(found.indices)
    (for_z,) = torch.autograd.grad(found.penalties["commitment"].sum(), z, retain_graph=True)
    close(for_z, 2 * residuals.sum(0))
    own = [book.codebook for book in made._own()]
    gradients = torch.autograd.grad(found.penalties["codebook"].sum(), own)
    for level, gradient in enumerate(gradients):
        wanted = torch.zeros(4, 3).index_add_(
            0, found.indices[:, level].flatten(), -2 * residuals[level].detach().movedim(1, -1).flatten(0, -2)
        )
        close(gradient, wanted)


def test_every_level_has_its_own_moving_averages() -> None:
    """Without decay a step is one of k-means on the residuals of each level."""
    z, books = batch()
    made = quantizer(books, decay=0.0, eps=1e-12)
    residual, indices = z, made(z).indices
    made.update()
    for level, (book, codes) in enumerate(zip(made._own(), books, strict=True)):
        vectors, chosen = residual.movedim(1, -1).flatten(0, -2), indices[:, level].flatten()
        for code in chosen.unique().tolist():
            close(book.codebook[code], vectors[chosen == code].mean(0))
        residual = residual - codes[indices[:, level]].movedim(-1, 1)


def test_shared_codes_are_those_of_all_levels() -> None:
    """Counts after decay 0: how often a code was taken in any level."""
    z, books = batch()
    made = quantizer(books[:1], levels=3, shared=True, decay=0.0)
    assert len(made.books) == 1
    assert made.sizes == (4, 4, 4)
    indices = made(z).indices
    made.update()
    assert torch.equal(made._own()[0].counts, torch.bincount(indices.flatten(), minlength=4).float())


def test_dropout_decodes_a_random_number_of_levels_in_training_only() -> None:
    z, books = batch()
    made = quantizer(books, dropout=True)
    partial = made.partial_codes(made(z).indices)
    depths = [int((partial == made(z).code.detach()).flatten(1).all(1).nonzero()[0]) for _ in range(40)]
    assert set(depths) == {0, 1, 2}
    assert torch.equal(made.eval()(z).code, partial[-1])
    torch.manual_seed(0)
    made.train()
    assert torch.equal(made(z).penalties["commitment"], made.eval()(z).penalties["commitment"])


def test_the_rate_is_that_of_all_levels() -> None:
    _, layout = ResidualQuantizer(3, levels=3, size=4).lay_out(3, 3)
    assert layout.uniform_rate() == pytest.approx(9 * 3 * np.log(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "model.quantizer_options.levels must be at least 1, got 0"),
        ({"size": 0}, "model.quantizer_options.size must be at least 1, got 0"),
        ({"decay": 1.0}, "model.quantizer_options.decay must be below 1"),
        ({"level": 3}, "model.quantizer_options.level is not a setting here; did you mean 'levels'"),
    ],
)
def test_an_impossible_quantiser_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_quantizer("rvq", 3, options)


def test_vector_quantize_pytorch_has_the_same_opinion() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="needs the package vector-quantize-pytorch")
    z, books = batch()
    theirs = library.ResidualVQ(
        dim=3, num_quantizers=3, codebook_size=4, decay=0.9, eps=1e-5, commitment_weight=1.0, threshold_ema_dead_code=0
    )
    for layer, own in zip(theirs.layers, books, strict=True):
        for name in ("embed", "embed_avg"):
            getattr(layer._codebook, name).copy_(own)
        layer._codebook.cluster_size.fill_(1)
    codes, indices, commitments = theirs(z.flatten(2).mT)
    made = quantizer(books, decay=0.9)
    found = made(z)
    made.update()
    assert torch.equal(found.indices.flatten(2), indices.movedim(-1, 1))
    close(found.code.flatten(2), codes.mT)
    close(found.penalties["commitment"].mean(), commitments.sum() * 12)  # means over the 12 numbers of a code
    for layer, book in zip(theirs.layers, made._own(), strict=True):
        close(book.codebook, layer._codebook.embed[0])
