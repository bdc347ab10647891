"""Categories are the papers' Gumbel-softmax in training and plain categories elsewhere."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.distributed.batch_shares import even_share, within_share
from vaezoo.models import CategoricalVAE, JointVAE
from vaezoo.models.relaxed import RelaxedVAE
from vaezoo.nn.posteriors.categorical import (
    Categories,
    Rate,
    Relaxation,
    RelaxedCategories,
    UniformCategories,
    concrete_log_prob,
    kl_to_uniform,
)

CPU = torch.device("cpu")
UNIFORM = UniformCategories((3,), CPU)
LOGITS = torch.tensor([0.3, -0.8, 1.1], dtype=torch.double)
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def relaxed(temperature: float, rate: Rate = "categorical", *, straight_through: bool = False) -> Relaxation:
    return Relaxation(torch.tensor(temperature, dtype=torch.double), straight_through, rate)


# formulas ------------------------------------------------------------------------------------------------------------


def test_the_relaxed_density_and_the_kl_are_the_papers() -> None:
    given, value = vector("concrete_density")
    found = concrete_log_prob(given["y"].log(), given["logits"], given["tau"])
    assert found.tolist() == pytest.approx(value["log_density"], rel=1e-10)
    assert kl_to_uniform(given["logits"].log_softmax(0)).item() == pytest.approx(value["kl_to_uniform"], rel=1e-10)


def test_the_density_does_not_depend_on_a_shift_of_the_logits() -> None:
    log_code = torch.randn(4, 3, dtype=torch.double).log_softmax(-1)
    torch.testing.assert_close(concrete_log_prob(log_code, LOGITS + 5, 0.7), concrete_log_prob(log_code, LOGITS, 0.7))


def test_the_density_is_finite_where_codes_underflow() -> None:
    log_code = torch.tensor([0.0, -300.0, -1000.0])
    assert log_code.exp()[2] == 0
    assert concrete_log_prob(log_code, LOGITS.float(), 0.1).isfinite()


def test_equal_probabilities_cost_nothing_and_a_certain_category_log_n() -> None:
    assert kl_to_uniform(torch.zeros(2, 4).log_softmax(-1)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert kl_to_uniform(torch.tensor([0.0, -200.0, -1e30]).log_softmax(-1)).item() == pytest.approx(math.log(3))


# draws ---------------------------------------------------------------------------------------------------------------


def test_hard_draws_have_the_probabilities() -> None:
    posterior = Categories(LOGITS.expand(1, 2, 3))
    code, log_prob = posterior.draw(100_000)
    assert set(code.unique().tolist()) == {0, 1}
    assert (code.unflatten(-1, (2, 3)).sum(-1) == 1).all()
    chance = LOGITS.softmax(0)
    assert ((code.mean((0, 1)) - chance.repeat(2)).abs() < 4 * 0.5 / 100_000**0.5).all()
    torch.testing.assert_close(log_prob, posterior.log_prob(code))
    rate = log_prob - UniformCategories((3, 3), CPU).log_prob(code)
    kl = posterior.kl(UNIFORM, posterior.draw())
    assert rate.mean().item() == pytest.approx(kl.sum().item(), abs=4 * rate.std().item() / len(rate) ** 0.5)


def test_relaxed_draws_become_the_categories_as_the_temperature_falls() -> None:
    chance, distances = LOGITS.softmax(0), []
    for temperature in (2.0, 0.5, 0.01):
        code = (
            Categories(LOGITS.expand(1, 1, 3), relaxed(temperature)).draw(50_000, torch.Generator().manual_seed(1)).code
        )
        torch.testing.assert_close(code.sum(-1), torch.ones(50_000, 1, dtype=torch.double))
        distances.append((code.mean((0, 1)) - chance).abs().max().item())
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 4 * 0.5 / 50_000**0.5


def test_the_rate_of_relaxed_codes_is_their_kl() -> None:
    """Against a grid of the density ratio over the simplex."""
    posterior = Categories(LOGITS.expand(1, 1, 3), relaxed(0.7, "relaxed"))
    draw = posterior.draw(200_000)
    found = posterior.kl(UNIFORM, draw).item()
    axis = torch.linspace(-30, 30, 1500, dtype=torch.double)
    one, two = torch.meshgrid(axis, axis, indexing="ij")
    log_code = torch.stack([one, two, torch.zeros_like(one)], -1).log_softmax(-1)
    log_q, log_p = (concrete_log_prob(log_code, logits, 0.7) for logits in (LOGITS, torch.zeros_like(LOGITS)))
    volume = (log_q + log_code.sum(-1)).exp() * (axis[1] - axis[0]) ** 2
    assert volume.sum().item() == pytest.approx(1, abs=1e-4)
    assert found == pytest.approx((volume * (log_q - log_p)).sum().item(), abs=0.01)
    assert found > kl_to_uniform(LOGITS.log_softmax(0)).item()  # the category is a function of the relaxed code


def test_the_gradient_is_near_that_by_enumeration() -> None:
    """Of E f(z) over three categories; biased at any temperature, and less so at lower ones."""
    values = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)

    def gradient(temperature: float) -> Tensor:
        logits = LOGITS.clone().requires_grad_()
        posterior = Categories(logits.expand(1, 1, 3), relaxed(temperature))
        code = posterior.draw(200_000, torch.Generator().manual_seed(3)).code
        (found,) = torch.autograd.grad((code @ values).mean(), logits)
        return found

    logits = LOGITS.clone().requires_grad_()
    (exact,) = torch.autograd.grad(logits.softmax(0) @ values, logits)
    errors = [(gradient(temperature) - exact).abs().max().item() for temperature in (1.0, 0.3, 0.1)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03


def test_straight_through_draws_are_one_hot_with_the_relaxed_gradient() -> None:
    found = []
    for straight_through in (True, False):
        logits = LOGITS.clone().requires_grad_()
        posterior = Categories(logits.expand(4, 2, 3), relaxed(0.7, straight_through=straight_through))
        code = posterior.draw(1, torch.Generator().manual_seed(2)).code
        found.append((code, torch.autograd.grad((code * torch.arange(6.0)).sum(), logits)[0]))
    (hard, gradient), (_, other) = found
    torch.testing.assert_close(hard, hard.round())
    torch.testing.assert_close(gradient, other)


def test_first_draws_do_not_depend_on_how_many_there_are() -> None:
    model = RelaxedCategories([3, 2], 2)
    for posterior in (model(torch.randn(4, 9)), Categories(torch.randn(4, 2, 3))):
        one, three = (posterior.draw(count, torch.Generator().manual_seed(4)).code for count in (1, 3))
        assert torch.equal(three[:1], one)


@pytest.mark.parametrize("training", [True, False])
def test_mixed_codes_are_gaussians_beside_categories(training: bool) -> None:
    family = RelaxedCategories([3, 2], 2, rate="relaxed").train(training).double()
    posterior, prior = family(torch.randn(4, 9, dtype=torch.double)), family.prior(CPU)
    draw = posterior.draw(10_000)
    assert draw.code.shape == (10_000, 4, 7)
    kl = posterior.kl(prior, draw)
    assert kl.shape == (4, 2)
    if not training:
        torch.testing.assert_close(draw.log_prob, posterior.log_prob(draw.code))
        rate = draw.log_prob - prior.log_prob(draw.code)
        assert ((rate.mean(0) - kl.sum(1)).abs() < 4 * rate.std(0) / len(rate) ** 0.5).all()
    torch.testing.assert_close(family.project(posterior.mean), posterior.mean)


def test_the_prior_draws_every_category_as_often() -> None:
    code = UniformCategories((3, 2), CPU).sample(30_000, torch.Generator().manual_seed(0))
    assert (code[:, :3].sum(1) == 1).all()
    expected = torch.tensor([1 / 3] * 3 + [1 / 2] * 2)
    assert ((code.mean(0) - expected).abs() < 4 * 0.5 / 30_000**0.5).all()


# models --------------------------------------------------------------------------------------------------------------


def categorical(**settings: Any) -> CategoricalVAE:
    torch.manual_seed(2)
    return CategoricalVAE(image_shape=(1, 8, 8), **{"groups": 4, "categories": 3, "widths": [16], **settings})


def joint(**settings: Any) -> JointVAE:
    torch.manual_seed(2)
    defaults = {"continuous": 2, "categories": [3, 2], "widths": [16]}
    return JointVAE(image_shape=(1, 8, 8), **{**defaults, **settings})


def test_training_relaxes_and_evaluation_does_not() -> None:
    model = categorical()
    assert not set(model.posterior(X).draw().code.unique().tolist()) <= {0, 1}
    model.eval()
    draw = model.posterior(X).draw()
    assert set(draw.code.unique().tolist()) == {0, 1}
    assert torch.equal(model.codes_at(model.indices(X)), model.encode(X))
    assert model.code_bits == pytest.approx(4 * math.log2(3))


def test_the_temperature_follows_the_steps() -> None:
    model = categorical(first_temperature=2.0, least_temperature=0.5, temperature_decay=0.1)
    assert model.posterior_model.temperature == 2
    assert [model.temperature_at(step) for step in (0, 1, 100)] == pytest.approx([2, 2 * math.exp(-0.1), 0.5])
    model.update_statistics()  # of the first step
    assert model.posterior_model.temperature.item() == pytest.approx(2 * math.exp(-0.1))
    assert "posterior_model.temperature" in model.state_dict()


def test_the_terms_of_a_relaxed_model_are_raw() -> None:
    model = joint()
    terms, weights = model.loss_terms(X), {"capacity": 0.5, "discrete_capacity": 0.1}
    expected = terms.recon + 30 * ((terms.kl[:, 0] - 0.5).abs() + (terms.kl[:, 1] - 0.1).abs())
    torch.testing.assert_close(model.objective(terms, weights), expected)
    assert {"kl", "kl_1", "kl_2"} <= terms.named().keys()
    assert model.formula().endswith("C1 up to 5 and C2 to 1.79 nats in 25,000 steps")  # log 3 + log 2
    assert model.weights() == {"temperature": 0.67, "capacity": 0, "discrete_capacity": 0}


@pytest.mark.parametrize("made", [categorical, joint])
def test_shares_of_a_batch_draw_their_rows_of_the_whole(made: Any) -> None:
    model: RelaxedVAE = made(rate="relaxed")
    torch.manual_seed(6)
    whole = model.loss_terms(X)
    for rank in range(2):
        share = even_share(5, rank, 2)
        torch.manual_seed(6)
        with within_share(share):
            own = model.loss_terms(share.rows(X, share.size))
        torch.testing.assert_close(own.kl, share.rows(whole.kl, share.size))
        torch.testing.assert_close(own.recon, share.rows(whole.recon, share.size))


def test_paths_change_one_group_after_another() -> None:
    model = categorical(groups=8).eval()
    codes = torch.lerp(*(model.path_code(X)[at][None] for at in (0, 1)), torch.linspace(0, 1, 400)[:, None])
    changes = (model.project(codes).diff(dim=0) != 0).any(1).sum()
    assert changes > 1
    torch.testing.assert_close(model.project(model.path_code(X)), model.encode(X))


@pytest.mark.parametrize("options", [{}, {"rate": "relaxed"}, {"straight_through": True}, {"free_bits": 0.1}])
def test_a_relaxed_model_learns_from_every_group(options: dict[str, Any]) -> None:
    model = categorical(**options)
    model.losses((X,), model.weights())[0].backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (
            categorical,
            {"bound": "iwae"},
            r"needs model\.bound=elbo .* because relaxed draws have no density under the prior; set model\.bound=elbo",
        ),
        (
            categorical,
            {"prior": "mixture"},
            r"CategoricalVAE has .* of its own; set model\.prior=normal",
        ),
        (categorical, {"posterior": "full"}, r"of its own; set model\.posterior=diagonal instead of full"),
        (categorical, {"rate": "exact"}, r"model\.rate must be one of categorical, relaxed, got 'exact'"),
        (categorical, {"least_temperature": 0.0}, r"model\.least_temperature must be above 0, got 0"),
        (categorical, {"groups": 0}, r"model\.groups times model\.categories must have at least one number"),
        (categorical, {"latent_dim": 5}, r"model\.latent_dim follows from .* whose sum is 12; set it to null"),
        (joint, {"gamma": -1.0}, r"model\.gamma must be at least 0, got -1"),
        (joint, {"categories": [3, 0]}, r"each of model\.continuous and model\.categories must be at least 1, got 0"),
        (joint, {"free_bits": 0.5}, r"model\.capacity and model\.free_bits both keep up the KL"),
    ],
)
def test_what_cannot_be_is_refused(made: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)
