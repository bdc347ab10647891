"""Quantisers: the nearest codes, whose gradients and moving averages are those of the papers."""

import math
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.config.choices import QUANTIZERS
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.codebooks import perplexity
from vaezoo.nn.index_layout import one_grid
from vaezoo.nn.quantizers import codebooks, make_quantizer
from vaezoo.nn.quantizers.base import Quantizer
from vaezoo.nn.quantizers.vector import VectorQuantizer


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """z (4, 3, 2, 2), codebook (5, 3) and weights of outputs, as in the recipes of the known values."""
    draw = np.random.RandomState(11).randn
    return tuple(torch.tensor(draw(*size)).float() for size in ((4, 3, 2, 2), (5, 3), (4, 3, 2, 2)))  # type: ignore[return-value]


def quantizer(codes: Tensor, **options: Any) -> VectorQuantizer:
    """A vector quantiser with these codes, each with a count of 1."""
    made = VectorQuantizer(codes.shape[1], size=len(codes), **{"restart": 0.0, **options})
    with torch.no_grad():
        made.codebook.copy_(codes)
    if made.ema:
        made.sums.copy_(codes)
    return made


# codes and gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_indices_and_commitment_are_the_known_ones(update: str, known: dict[str, Tensor]) -> None:
    z, codes, _ = batch()
    for made in (quantizer(codes, update=update), quantizer(codes, update=update).eval()):
        found = made(z)
        assert torch.equal(found.indices, known["vq_indices"][:, None])
        close(found.penalties["commitment"], known["vq_commitment_per_image"])
        assert torch.equal(found.code, made.codes(found.indices))
        assert (found.code.shape, found.indices.dtype) == (z.shape, torch.long)


def test_the_loss_does_not_depend_on_the_batch_size(known: dict[str, Tensor]) -> None:
    z, codes, _ = batch()
    made = quantizer(codes, update="gradient")
    for parts in (1, 4):
        found = [made(part).penalties for part in z.split(parts)]
        losses = torch.cat([each["codebook"] + 0.25 * each["commitment"] for each in found])
        close(losses.mean(), known["vq_loss_batch_invariant"])


def test_gradients_reach_encoder_and_codebook_by_their_own_terms(known: dict[str, Tensor]) -> None:
    """The codebook gets none from outputs; with the weight on the wrong term the loss would look the same."""
    z, codes, weights = batch()
    made, z = quantizer(codes, update="gradient"), z.requires_grad_()
    found = made(z)
    loss = (weights * found.code).sum()
    loss = loss + (found.penalties["codebook"] + 0.25 * found.penalties["commitment"]).mean()
    for_z, for_codes = torch.autograd.grad(loss, (z, made.codebook))
    close(for_z, known["vq_gradient_z"])
    close(for_codes, known["vq_gradient_codebook"])


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_straight_through_is_the_identity_for_gradients(update: str) -> None:
    z, codes, weights = batch()
    made, z = quantizer(codes, update=update), z.requires_grad_()
    (weights * made(z).code).sum().backward()
    assert torch.equal(z.grad, weights)
    assert made.codebook.grad is None
    assert [name for name, _ in made.named_parameters()] == (["codebook"] if update == "gradient" else [])


def test_the_rotation_is_the_known_one(known: dict[str, Tensor]) -> None:
    draw = np.random.RandomState(12).randn
    z, q, g = (torch.tensor(draw(4)).float() for _ in range(3))
    z.requires_grad_()
    turned = codebooks.rotation(z, q)
    close(turned, known["vq_rotation_output_is_q"])
    assert torch.equal(turned, q)
    close(torch.autograd.grad(turned @ g, z)[0], known["vq_rotation_trick"])


@pytest.mark.parametrize(("z", "q"), [([1.0, 0], [-2.0, 0]), ([0.0, 0], [1.0, 0]), ([1.0, 0], [0.0, 0])])
def test_where_no_rotation_is_defined_the_gradient_is_the_identity(z: list[float], q: list[float]) -> None:
    point = torch.tensor(z, requires_grad=True)
    turned = codebooks.rotation(point, torch.tensor(q))
    assert turned.tolist() == q
    assert torch.autograd.grad(turned @ torch.tensor([3.0, 4.0]), point)[0].tolist() == [3, 4]


def test_a_quantiser_with_rotation_gives_the_same_codes_and_penalties() -> None:
    z, codes, weights = batch()
    plain, turned = quantizer(codes)(z), quantizer(codes, estimator="rotation")(z.requires_grad_())
    assert torch.equal(plain.code, turned.code)
    assert torch.equal(plain.penalties["commitment"], turned.penalties["commitment"])
    (weights * turned.code).sum().backward()
    assert z.grad.isfinite().all()
    assert not torch.allclose(z.grad, weights)


def test_of_equally_near_codes_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.tensor([[0.0, 0], [2, 0], [-1, 1]])
    codes = torch.tensor([[3.0, 0], [1, 0], [-1, 0], [1, 0]])
    assert codebooks.nearest(z, codes).tolist() == [1, 0, 2]
    monkeypatch.setattr(codebooks, "MOST_DISTANCES", 9)  # two vectors at once
    assert codebooks.nearest(z, codes).tolist() == [1, 0, 2]


def test_codes_are_fixed_points() -> None:
    z, codes, _ = batch()
    made = quantizer(codes).eval()
    first = made(z)
    again = made(first.code)
    assert torch.equal(again.code, first.code)
    assert not again.penalties["commitment"].any()


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_cosine_codes_are_those_of_the_smallest_angle(update: str) -> None:
    """On the unit sphere |z - e|^2 = 2 - 2 cos, whatever the lengths."""
    z, codes, _ = batch()
    made = quantizer(codes, update=update, normalize=True)
    found, longer = made(z), quantizer(7 * codes, update=update, normalize=True)(3 * z)
    cosines = torch.einsum("bchw,kc->bkhw", z, codes) / (z.norm(dim=1, keepdim=True) * codes.norm(dim=1)[:, None, None])
    assert torch.equal(found.indices[:, 0], cosines.argmax(1))
    close(found.code.norm(dim=1), torch.ones(4, 2, 2))
    for name, penalty in found.penalties.items():
        close(penalty, (2 - 2 * cosines.max(1).values).sum((1, 2)))
        close(longer.penalties[name], penalty)
    close(longer.code, found.code)
    assert torch.equal(made.eval()(found.code).code, found.code)


def test_cosine_codes_move_towards_the_mean_direction_of_their_vectors() -> None:
    """Without decay a code becomes the normalised mean of its normalised vectors."""
    z, codes, _ = batch()
    made = quantizer(codes, normalize=True, decay=0.0, eps=1e-12)
    indices = made(z).indices.flatten()
    made.update()
    directions = torch.nn.functional.normalize(z, dim=1).movedim(1, -1).flatten(0, -2)
    for code in indices.unique().tolist():
        mean = directions[indices == code].mean(0)
        close(made.current_codes()[code], mean / mean.norm())
    made.start(5 * z.movedim(1, -1).flatten(0, -2))
    assert (made.codebook.norm(dim=1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("autocast", [False, True])
def test_distances_are_in_float32_whatever_the_precision(autocast: bool) -> None:
    """1000 and 1001 are one number in bfloat16, as are the distances from them."""
    codes = torch.tensor([[1000.0], [1001.0]])
    made = quantizer(codes)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = made(torch.tensor([1000.0, 1004.0], dtype=torch.bfloat16).view(2, 1, 1, 1))
    assert found.indices.flatten().tolist() == [0, 1]
    assert found.code.dtype == found.penalties["commitment"].dtype == torch.float32
    assert found.penalties["commitment"].tolist() == [0, 9]


# moving averages -----------------------------------------------------------------------------------------------------


def test_a_step_of_the_moving_averages_is_the_known_one(known: dict[str, Tensor]) -> None:
    z, codes, _ = batch()
    made = quantizer(codes, decay=0.9, eps=1e-5)
    before = made(z).code
    assert torch.equal(made.codebook, codes)  # a batch is coded with the codes before its step
    made.update()
    close(made.codebook, known["vq_ema_step"])
    close(made.counts, known["vq_ema_counts"])
    assert not torch.equal(made(z).code, before)


def test_one_code_moves_as_calculated_by_hand() -> None:
    """Count 0.9 + 0.1 * 2 = 1.1, sum 0.9 * 1 + 0.1 * (2 + 4) = 1.5."""
    made = quantizer(torch.ones(1, 1), decay=0.9)
    made(torch.tensor([2.0, 4.0]).view(2, 1, 1, 1))
    made.update()
    assert made.counts.item() == pytest.approx(1.1)
    assert made.codebook.item() == pytest.approx(1.5 / 1.1)


def test_without_decay_a_step_is_one_of_k_means(known: dict[str, Tensor]) -> None:
    z, codes, _ = batch()
    made = quantizer(codes, decay=0.0, eps=1e-12)
    made(z)
    made.update()
    close(made.codebook, known["vq_ema_is_kmeans"])


@pytest.mark.parametrize("restart", [0.0, 0.9])
def test_halves_of_a_batch_give_what_the_whole_gives(restart: float) -> None:
    z, codes, _ = batch()
    results = []
    for parts in (4, 2, 1):
        torch.manual_seed(1)
        made = quantizer(codes, decay=0.5, restart=restart)
        for part in z.split(parts):
            made(part)
        made.update()
        assert bool(made.restarted) == bool(restart)
        results.append(made)
    for made in results[1:]:
        torch.testing.assert_close(made.codebook, results[0].codebook, rtol=0, atol=1e-7)
        torch.testing.assert_close(made.counts, results[0].counts, rtol=0, atol=1e-7)


def test_nothing_gathered_nothing_changed() -> None:
    z, codes, _ = batch()
    made = quantizer(codes, restart=0.9)
    made.eval()(z)
    made.train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.update()
    made(z)
    made.update()
    after = {name: value.clone() for name, value in made.state_dict().items()}
    assert not torch.equal(after["codebook"], before["codebook"])
    made.update()
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in after.items())


def test_vectors_that_are_not_finite_leave_the_codes_as_they_are() -> None:
    z, codes, _ = batch()
    made = quantizer(codes, restart=0.9)
    z[0, 0, 0, 0] = math.nan
    made(z)
    made.update()
    assert torch.equal(made.codebook, codes)
    made(batch()[0])
    made.update()
    assert made.codebook.isfinite().all()
    assert not torch.equal(made.codebook, codes)


def test_a_checkpoint_has_the_averages_and_nothing_of_a_batch() -> None:
    assert list(VectorQuantizer(3).state_dict()) == ["started", "codebook", "counts", "sums"]
    assert list(VectorQuantizer(3, update="gradient").state_dict()) == ["codebook", "started"]


# restarts ------------------------------------------------------------------------------------------------------------


def far_codes() -> tuple[Tensor, Tensor]:
    """z (2, 3, 2, 2), and eight codes of which all but the first are too far away for any of its eight vectors."""
    codes = 100 + torch.arange(24.0).view(8, 3)
    codes[0] = 0
    return torch.randn(2, 3, 2, 2), codes


def test_unused_codes_become_different_vectors_of_the_batch() -> None:
    """Counts after decay 0.5: 4.5 and seven of 0.5, so the mean is 1, and 0.6 is above the seven."""
    z, codes = far_codes()
    made = quantizer(codes, decay=0.5, restart=0.6)
    made(z)
    made.update()
    vectors = z.movedim(1, -1).flatten(0, -2)
    same = (made.codebook[1:, None] == vectors).all(-1)
    assert same.sum(1).tolist() == [1] * 7
    assert (same.sum(0) <= 1).all()
    assert made.restarted == 7
    assert made.statistics() == {"restarts": made.restarted}
    torch.testing.assert_close(made.counts, torch.tensor([4.5] + [1.2] * 7))
    torch.testing.assert_close(made.sums[1:], 1.2 * made.codebook[1:])


@pytest.mark.parametrize(("restart", "restarts"), [(0.0, True), (0.6, False), (0.4, True)])
def test_codes_stay_where_restarts_are_off_or_counts_suffice(restart: float, restarts: bool) -> None:
    z, codes = far_codes()
    made = quantizer(codes, decay=0.5, restart=restart)
    made(z)
    made.update(restarts)
    torch.testing.assert_close(made.codebook[1:], codes[1:], rtol=1e-4, atol=0)
    assert made.restarted == 0


def test_no_more_codes_are_restarted_than_there_are_vectors() -> None:
    z, codes = far_codes()
    made = quantizer(codes, decay=0.5, restart=0.9)
    made(z[:1, :, :1])
    made.update()
    assert made.restarted == 2
    torch.testing.assert_close(made.codebook[3:], codes[3:], rtol=1e-4, atol=0)


@pytest.mark.parametrize("restart", [0.0, 0.5])
def test_draws_depend_on_the_number_of_vectors_only(restart: float) -> None:
    z, codes = far_codes()
    states = []
    for images in (z, torch.zeros_like(z)):
        torch.manual_seed(7)
        made = quantizer(codes, restart=restart)
        made(images)
        made.update()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


# start ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_start_from_k_means(update: str) -> None:
    """Three clusters far apart: their means are the only solution."""
    centres = torch.tensor([[0.0, 0], [50, 0], [0, 50]])
    vectors = (centres + torch.randn(20, 3, 2)).flatten(0, 1)
    made = VectorQuantizer(2, size=3, update=update)  # type: ignore[arg-type]
    assert made.wants_images > 0
    state = torch.get_rng_state()
    made.start(vectors)
    assert torch.equal(torch.get_rng_state(), state)
    assert made.wants_images == 0
    expected = vectors.view(20, 3, 2).mean(0)
    order = torch.cdist(expected, made.codebook.detach()).argmin(1)
    close(made.codebook[order], expected)
    if made.ema:
        torch.testing.assert_close(made.sums, made.codebook * made.counts[:, None])
    again = VectorQuantizer(2, size=3, update=update)  # type: ignore[arg-type]
    again.start(vectors)
    assert torch.equal(again.codebook, made.codebook)
    loaded = VectorQuantizer(2, size=3, update=update)  # type: ignore[arg-type]
    loaded.load_state_dict(made.state_dict())
    assert loaded.wants_images == 0


@pytest.mark.filterwarnings("error")
def test_fewer_distinct_vectors_than_codes_are_taken_several_times() -> None:
    vectors = torch.tensor([[0.0, 1], [2, 3]]).repeat(4, 1)
    made = VectorQuantizer(2, size=7)
    made.start(vectors)
    distances = torch.cdist(made.codebook, vectors[:2])
    assert (distances.min(1).values < 0.02).all()
    assert made.codebook.unique(dim=0).shape == (7, 2)
    assert torch.equal(made.codebook[:2], vectors[:2])


@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_more_codes_than_vectors_to_start_from_are_refused(name: str) -> None:
    message = "model.quantizer_options.size must be at most the number of vectors .* is 6 for these .*, got 7"
    with pytest.raises(ConfigError, match=message):
        make_quantizer(name, 3, {"size": 7}).start(torch.randn(6, 3))


# usage ---------------------------------------------------------------------------------------------------------------


def test_rates_and_perplexities_are_the_known_ones(known: dict[str, Tensor]) -> None:
    uniform, iid, bits, _ = known["rates"].tolist()
    counts = torch.tensor([8, 4, 4, 0])
    layout = one_grid((4,), 3, 3)
    assert layout.uniform_rate() == pytest.approx(uniform, abs=1e-6)
    assert layout.bits() == pytest.approx(bits)
    assert 9 * perplexity(counts).log().item() == pytest.approx(iid, abs=1e-6)
    assert perplexity(counts).item() == pytest.approx(known["perplexity_global"][0].item(), abs=1e-6)
    assert perplexity(torch.full((16,), 7)).item() == pytest.approx(known["perplexity_uniform"].item(), abs=1e-6)
    assert one_grid((4, 4), 3, 3).uniform_rate() == 2 * layout.uniform_rate()
    assert one_grid((1,), 3, 3).uniform_rate() == 0


# construction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_quantiser_can_be_created_without_memory(update: str) -> None:
    with torch.device("meta"):
        made = make_quantizer("vq", 2**20, {"size": 2**20, "update": update})
    assert made.sizes == (2**20,)
    assert {value.device.type for value in made.state_dict().values()} == {"meta"}
    assert made.formula() == ("" if update == "ema" else " + codebook")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vqq", {}, "model.quantizer must be one of vq, rvq, .* got 'vqq'"),
        ("vq", {"sizes": 4}, "model.quantizer_options.sizes is not a setting here; did you mean 'size'?"),
        ("vq", {"channels": 4}, "model.quantizer_options.channels is set by the program"),
        ("vq", {"size": 0}, "model.quantizer_options.size must be at least 1, got 0"),
        ("vq", {"size": 2**50}, "model.quantizer_options.size"),
        ("vq", {"update": "adam"}, "model.quantizer_options.update must be 'ema' or 'gradient', got 'adam'"),
        ("vq", {"decay": 1.0}, "model.quantizer_options.decay must be below 1"),
        ("vq", {"decay": -0.1}, "model.quantizer_options.decay must be at least 0"),
        ("vq", {"eps": 0.0}, "model.quantizer_options.eps must be above 0"),
        ("vq", {"restart": 1.5}, "model.quantizer_options.restart must be at most 1"),
        ("vq", {"restart": math.nan}, "model.quantizer_options.restart must be at least 0 and finite"),
        ("vq", {"estimator": "gumbel"}, "estimator must be 'straight_through' or 'rotation', got 'gumbel'"),
    ],
)
def test_an_impossible_quantiser_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_quantizer(name, 3, options)


# others --------------------------------------------------------------------------------------------------------------


def test_vector_quantize_pytorch_has_the_same_opinion() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="needs the package vector-quantize-pytorch")
    z, codes, _ = batch()
    theirs = library.VectorQuantize(3, 5, decay=0.9, eps=1e-5, accept_image_fmap=True, commitment_weight=1.0)
    for name in ("embed", "embed_avg"):
        getattr(theirs._codebook, name).copy_(codes)
    theirs._codebook.cluster_size.fill_(1)
    _, indices, commitment = theirs(z)
    ours = quantizer(codes, decay=0.9)
    found = ours(z)
    ours.update()
    assert torch.equal(found.indices[:, 0], indices)
    close(found.penalties["commitment"].mean(), commitment.squeeze() * 12)  # a mean over the 12 numbers of a code
    close(ours.codebook, theirs._codebook.embed[0])


NATIVE = [pytest.mark.nightly, pytest.mark.skipif(not which("g++"), reason="torch.compile needs a C++ compiler")]
MOVING = {"size": 8, "restart": 0.6, "decay": 0.5}
EVERY: list[tuple[str, dict[str, Any]]] = [
    ("vq", MOVING),
    ("vq", MOVING | {"update": "gradient", "normalize": True}),
    ("rvq", MOVING | {"levels": 2, "dropout": True}),
    ("fsq", {"levels": [5, 4, 3]}),
    ("lfq", {"bits": 3}),
    ("bsq", {"bits": 3}),
    ("simvq", {"size": 8}),
    ("gumbel", {"size": 3}),
]
"""Every quantiser of vectors with three channels."""


def test_every_quantiser_is_among_these() -> None:
    assert {name for name, _ in EVERY} == set(QUANTIZERS)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=NATIVE)])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_forward_and_update_are_one_program(name: str, options: dict[str, Any], backend: str) -> None:
    torch.compiler.reset()
    z, codes = far_codes()
    results = []
    for compiled in (False, True):
        torch.manual_seed(2)
        made = make_quantizer(name, 3, options)
        for book in (part for part in made.modules() if isinstance(part, VectorQuantizer)):
            book.start_at(codes)

        def step(z: Tensor, made: Quantizer = made) -> Tensor:
            found, posterior = made(z), made.posterior(z)
            made.update()
            drawn = 0 if posterior is None else posterior.draw().first.sum()
            return found.code.sum() + sum(penalty.mean() for penalty in found.penalties.values()) + drawn

        # with fallback_random, inductor draws what torch draws
        compilation = {"fallback_random": True} if backend == "inductor" else None
        run = torch.compile(step, backend=backend, fullgraph=True, options=compilation) if compiled else step
        results.append((run(z), run(z[:1]), run(z), made.state_dict()))
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager)
    torch.compiler.reset()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_every_quantiser_computes_in_single_precision(name: str, options: dict[str, Any], autocast: bool) -> None:
    made, z = make_quantizer(name, 3, options).eval(), torch.randn(4, 3, 2, 2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, again = made(z), made.codes(made(z).indices)
    wanted = made(z.float())
    assert found.code.dtype == torch.float32
    assert torch.equal(found.code, wanted.code)
    assert torch.equal(again, wanted.code)
    for penalty_name, penalty in found.penalties.items():
        assert torch.equal(penalty, wanted.penalties[penalty_name])


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_paths_of_every_quantiser_begin_at_its_codes(name: str, options: dict[str, Any]) -> None:
    made, z = make_quantizer(name, 3, options).eval(), torch.randn(6, 3, 2, 2)
    found = made(z)
    assert torch.equal(made.project(made.path(z)), found.code)
    assert torch.equal(made.codes(found.indices), found.code)
    assert (found.indices.amax((0, 2, 3)) < torch.tensor(made.sizes)).all()


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_vectors_that_are_not_finite_have_codes_that_are_not_and_valid_indices(
    name: str, options: dict[str, Any]
) -> None:
    """So that the loss says so, and nothing is read out of bounds, which on a GPU ends the process."""
    made, z = make_quantizer(name, 3, options), torch.randn(4, 3, 2, 2)
    z[0], z[1] = math.nan, math.inf
    found, posterior = made(z), made.posterior(z)
    code = found.code if posterior is None else posterior.draw().first
    assert not code[0].isfinite().all()
    assert code[2:].isfinite().all()
    assert (found.indices >= 0).all()
    assert (found.indices.amax((0, 2, 3)) < torch.tensor(made.sizes)).all()
