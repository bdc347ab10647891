"""Hierarchies are the papers' posteriors, and their KL, densities and draws those of Gaussians in closed form."""

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.distributed.batch_shares import even_share, within_share
from vaezoo.models import VAE, HierarchicalVAE, LadderVAE
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.posteriors.hierarchical import (
    LEAST_LOGVAR,
    MOST_LOGVAR,
    Inference,
    VectorLevels,
    kl_between,
    precision_weighted,
    residual,
    soft_clamp,
)

INFERENCES: list[Inference] = ["residual", "ladder", "bottom_up"]
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def made(**settings: Any) -> HierarchicalVAE:
    torch.manual_seed(2)
    defaults = {"levels": [2, 3, 4], "widths": [16], "level_widths": [8], "beta_schedule": "constant"}
    return HierarchicalVAE(image_shape=(1, 8, 8), **{**defaults, **settings})


def stirred(model: HierarchicalVAE) -> HierarchicalVAE:
    """The model with posteriors that are no longer those at the start."""
    for parameter in model.posterior_model.posteriors.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


# formulas ------------------------------------------------------------------------------------------------------------


def test_residual_and_ladder_posteriors_are_the_papers() -> None:
    given, value = vector("residual_and_ladder_posteriors")
    p = DiagonalGaussian(torch.zeros_like(given["lp"]), 2 * given["lp"])
    q = residual(p, given["dm"], 2 * given["ds"])
    assert kl_between(q, p).tolist() == pytest.approx(value["nvae_residual_kl"], rel=1e-10)
    product = precision_weighted(DiagonalGaussian(*given["q"]), DiagonalGaussian(*given["p"]))
    assert product.mean.tolist() == pytest.approx(value["ladder_mean"], rel=1e-10)
    assert product.logvar.exp().tolist() == pytest.approx(value["ladder_variance"], rel=1e-10)


def test_a_posterior_that_is_its_prior_costs_exactly_nothing() -> None:
    p = DiagonalGaussian(torch.randn(4, 3), torch.randn(4, 3))
    zero = torch.zeros(4, 3)
    assert torch.equal(kl_between(residual(p, zero, zero), p), zero)


def test_the_clamp_is_soft_and_nearly_the_identity_inside() -> None:
    values = torch.tensor([-1e4, -50.0, -3.0, 0.0, 50.0, 1e4], dtype=torch.double, requires_grad=True)
    found = soft_clamp(values)
    assert found.min() >= LEAST_LOGVAR
    assert found.max() <= MOST_LOGVAR + 1e-5
    torch.testing.assert_close(found[2:4], values[2:4], atol=0.02, rtol=0)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert (gradient[1:5] > 0).all()
    assert gradient.isfinite().all()


# two linear levels in closed form ------------------------------------------------------------------------------------


def unclamped(logvar: Tensor) -> Tensor:
    """What ``soft_clamp`` maps to ``logvar``."""
    inner = LEAST_LOGVAR + torch.log(torch.expm1(logvar - LEAST_LOGVAR))
    return MOST_LOGVAR - torch.log(torch.expm1(MOST_LOGVAR - inner))


def linear_levels(given: dict[str, Any]) -> tuple[VectorLevels, Tensor]:
    """The networks of the two linear levels, and the encoder's outputs for the image x, (1, F)."""
    networks = VectorLevels([2, 3], "residual", []).double()
    prior, posterior = (part[0].layers[0] for part in (networks.priors, networks.posteriors))
    with torch.no_grad():
        prior.weight.copy_(torch.cat([given["A"], torch.zeros(3, 2)]))
        prior.bias.copy_(torch.cat([torch.zeros(3), unclamped(given["s1"].log())]))
        posterior.weight[:3] = torch.cat([given["R"] - given["A"], torch.eye(3), torch.zeros(3, 3)], 1)
        posterior.bias[3:] = given["t1"].log() - given["s1"].log()
    x = given["x"]
    return networks, torch.cat([given["P"] @ x, given["v2"].log(), given["Q"] @ x, torch.zeros(3)])[None]


def cross(dimensions: int, total: int) -> Tensor:
    """Noise whose first ``dimensions`` of ``total`` average every quadratic exactly as N(0, I): (2 n, 1, total)."""
    points = math.sqrt(dimensions) * torch.eye(dimensions, total, dtype=torch.double)
    return torch.cat([points, -points])[:, None]


@torch.no_grad()
def test_two_levels_have_the_closed_forms() -> None:
    given, value = vector("hierarchical_two_levels")
    networks, features = linear_levels(given)
    kl = networks.drawn(cross(2, 5), features).kl()[0]
    assert kl[0].item() == pytest.approx(value["kl_top"], rel=1e-10)
    assert kl[1].item() == pytest.approx(value["kl_bottom"], rel=1e-10)
    top, bottom = networks.drawn(cross(5, 5), features).codes
    error = given["x"] - bottom @ given["B"].T - top @ given["C"].T
    log_likelihood = -0.5 * (error.square() / 0.2 + math.log(2 * math.pi * 0.2)).sum(-1).mean()
    assert log_likelihood.item() == pytest.approx(value["expected_log_likelihood"], rel=1e-10)
    assert (log_likelihood - kl.sum()).item() == pytest.approx(value["elbo"], rel=1e-10)


@torch.no_grad()
def test_the_prior_of_two_levels_gives_the_evidence() -> None:
    given, value = vector("hierarchical_two_levels")
    prior = linear_levels(given)[0].prior(torch.device("cpu"))
    factor = prior.codes(torch.eye(5, dtype=torch.double))  # rows; the prior is linear and centred
    seen = factor @ torch.cat([given["C"], given["B"]], 1).T
    covariance = seen.T @ seen + 0.2 * torch.eye(4, dtype=torch.double)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.double), covariance)
    assert evidence.log_prob(given["x"]).item() == pytest.approx(value["log_p_x"], rel=1e-10)
    code = torch.randn(6, 5, dtype=torch.double)
    joint = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.double), factor.T @ factor)
    torch.testing.assert_close(prior.log_prob(code), joint.log_prob(code))


@torch.no_grad()
def test_draws_and_densities_average_to_the_kl() -> None:
    given, value = vector("hierarchical_two_levels_monte_carlo")
    networks, features = linear_levels(given)
    posterior, prior = networks(features), networks.prior(torch.device("cpu"))
    draw = posterior.draw(100_000)
    rate = (draw.log_prob - prior.log_prob(draw.code))[:, 0]
    assert rate.mean().item() == pytest.approx(value["kl"], abs=4 * rate.std().item() / len(rate) ** 0.5)


# any number of levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", INFERENCES)
@torch.no_grad()
def test_the_levels_add_up_to_log_q_minus_log_p(inference: Inference) -> None:
    model = stirred(made(inference=inference)).double()
    posterior, prior = model.posterior(X.double()), model.prior()
    draw = posterior.draw(20_000)
    torch.testing.assert_close(draw.log_prob, posterior.log_prob(draw.code))
    rate = draw.log_prob - prior.log_prob(draw.code)
    kl = posterior.kl(prior, draw).sum(1)
    assert ((rate.mean(0) - kl).abs() < 4 * rate.std(0) / len(rate) ** 0.5).all()
    torch.testing.assert_close(posterior.kl(prior, draw.seen_through(draw.code)).sum(1), kl)


@pytest.mark.parametrize("inference", INFERENCES)
def test_first_draws_do_not_depend_on_how_many_there_are(inference: Inference) -> None:
    posterior = stirred(made(inference=inference)).posterior(X)
    one, three = (posterior.draw(count, torch.Generator().manual_seed(4)).code for count in (1, 3))
    torch.testing.assert_close(three[:1], one)


@pytest.mark.parametrize("inference", INFERENCES)
def test_the_mean_is_drawn_without_noise(inference: Inference) -> None:
    model = stirred(made(inference=inference))
    posterior = model.posterior(X)
    levels = model.posterior_model.scored(posterior.mean[None], posterior.features)
    for code, q in zip(levels.codes, levels.posteriors, strict=True):
        torch.testing.assert_close(code, q.mean.expand_as(code))


def test_an_untrained_residual_posterior_costs_nothing_below_the_top() -> None:
    kl = made().loss_terms(X).kl
    assert (kl[:, 0] > 0).all()
    assert torch.equal(kl[:, 1:], torch.zeros(5, 2))


@pytest.mark.parametrize("inference", INFERENCES)
def test_one_level_is_the_vae_to_the_last_bit(inference: Inference) -> None:
    hierarchy = made(levels=[3], inference=inference)
    torch.manual_seed(2)
    vae = VAE(image_shape=(1, 8, 8), latent_dim=3, widths=[16])
    results = []
    for model in (hierarchy, vae):
        torch.manual_seed(3)
        results.append(model.losses((X,), model.weights())[0])
    assert torch.equal(*results)
    assert hierarchy.state_dict().keys() == vae.state_dict().keys()


@pytest.mark.parametrize("inference", INFERENCES)
def test_shares_of_a_batch_draw_their_rows_of_the_whole(inference: Inference) -> None:
    model = stirred(made(inference=inference))
    torch.manual_seed(6)
    whole = model.loss_terms(X)
    for rank in range(2):
        share = even_share(5, rank, 2)
        torch.manual_seed(6)
        with within_share(share):
            own = model.loss_terms(share.rows(X, share.size))
        torch.testing.assert_close(own.kl, share.rows(whole.kl, share.size))
        torch.testing.assert_close(own.recon, share.rows(whole.recon, share.size))


@pytest.mark.parametrize("logvar", [-20.0, 20.0])
@pytest.mark.parametrize("inference", INFERENCES)
def test_extreme_variances_are_finite(inference: Inference, logvar: float) -> None:
    model = made(inference=inference)
    features = torch.full((2, model.posterior_model.features(9)), logvar)
    posterior = model.posterior_model(features)
    draw = posterior.draw()
    for values in (draw.log_prob, posterior.kl(model.prior(), draw), model.prior().log_prob(draw.code)):
        assert values.isfinite().all()


def test_the_order_of_levels_survives_a_file() -> None:
    model, file = stirred(made()), io.BytesIO()
    torch.save({"state": model.state_dict(), "settings": dict(model.hparams)}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = HierarchicalVAE(**saved["settings"])
    again.load_state_dict(saved["state"])
    torch.testing.assert_close(again.encode(X), model.encode(X))
    code = model.encode(X)
    torch.testing.assert_close(again.decode(code), model.decode(code))
    torch.testing.assert_close(code[:, :2], model.features(X)[:, :2])  # the top is first


@pytest.mark.parametrize(
    "options", [{"bound": "iwae"}, {"bound": "miwae"}, {"free_bits": 0.5}, {"penalty": "critic_tc"}]
)
def test_other_axes_are_free(options: dict[str, Any]) -> None:
    model = made(**options)
    loss, values = model.losses((X,), model.weights())
    loss.backward()
    assert {"kl", "kl_1", "kl_2", "kl_3"} <= values.keys()
    assert loss.isfinite()


def test_the_rate_of_a_level_has_a_floor() -> None:
    model = made(free_bits=0.5)
    loss, values = model.losses((X,), model.weights())
    expected = values["recon"].mean() + max(0.5, values["kl_1"].mean().item()) + 2 * 0.5
    assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": []}, r"model\.levels must have at least one number"),
        ({"levels": [2, 0]}, r"each of model\.levels must be at least 1, got 0"),
        ({"latent_dim": 4}, r"model\.latent_dim follows from model\.levels, whose sum is 9; set it to null"),
        ({"inference": "sideways"}, r"model\.inference must be one of residual, ladder, bottom_up"),
        ({"level_widths": [0]}, r"each of model\.level_widths must be at least 1, got 0"),
        (
            {"prior": "vamp"},
            r"HierarchicalVAE has .* of its own; set model\.prior=normal instead of vamp",
        ),
        ({"posterior": "full"}, r"of its own; set model\.posterior=diagonal instead of full"),
        ({"posterior_options": {"rank": 3}}, r"of its own; set model\.posterior_options=null"),
        (
            {"bound": "iwae", "bound_options": {"estimator": "dreg"}},
            r"estimator=dreg needs the density .* which VectorLevels does not have; set .*=plain",
        ),
        (
            {"penalty": "total_correlation"},
            "needs a posterior of independent Gaussian dimensions; choose a VAE that has",
        ),
        ({"code_channels": 3}, "a code is flat or spatial"),
        ({"decoder_sees": "top"}, r"model\.decoder_sees must be one of all, lowest, got 'top'"),
        (
            {"bound": "iwae", "beta_schedule": "linear"},
            r"needs model\.bound=elbo .* because its KL is weighed unless model\.beta=1, .*beta_schedule=constant",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_beta_rises_by_default_so_that_levels_stay_in_use() -> None:
    for cls in (HierarchicalVAE, LadderVAE):
        model = cls(image_shape=(1, 8, 8), widths=[16])
        assert model.weights()["beta"] == 0
        assert model.formula() == "recon + kl (beta warms up over 2,000 steps)"


@pytest.mark.parametrize("inference", INFERENCES)
def test_a_decoder_of_the_lowest_level_ignores_those_above(inference: Inference) -> None:
    model = stirred(made(inference=inference, decoder_sees="lowest"))
    code = torch.randn(5, 9)
    other = torch.cat([torch.randn(5, 5), code[:, 5:]], 1)
    assert torch.equal(model.decode(other), model.decode(code))
    assert not torch.equal(made(inference=inference).decode(other), made(inference=inference).decode(code))
    loss, _ = model.losses((X,), model.weights())
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_activations_are_those_of_the_network() -> None:
    model = made(network_options={"activation": "tanh"})
    kinds = {type(module) for module in model.modules() if not list(module.children())}
    assert torch.nn.Tanh in kinds
    assert torch.nn.ReLU not in kinds


def test_a_ladder_is_a_hierarchy_with_another_posterior() -> None:
    torch.manual_seed(2)
    ladder = LadderVAE(image_shape=(1, 8, 8), levels=[2, 3, 4], widths=[16], level_widths=[8])
    other = made(inference="ladder")
    assert ladder.posterior_model.inference == "ladder"
    for (name, one), same in zip(ladder.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, same), name


def test_a_prior_moves_to_another_device() -> None:
    prior = made().prior()
    assert prior.to(torch.device("cpu")).networks is not prior.networks
    assert not prior.factorises
    assert prior.moments() is None
