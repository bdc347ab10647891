"""Bounds are those of the papers, tight where they must be, and their gradients are those of their values."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.nn.bounds import BoundTerms, combined_bound, doubly_reparametrised, make_bound

IMPORTANCE = ["iwae", "miwae", "ciwae"]
"""Bounds whose loss is computed from one set of weights, with two estimators of the gradient."""


def log_weights(*shape: int, spread: float = 2.0) -> Tensor:
    return spread * torch.randn(*shape, dtype=torch.double) - 90


# values --------------------------------------------------------------------------------------------------------------


def test_iwae_is_the_log_of_the_mean_weight() -> None:
    given, value = vector("iwae_bound")
    assert make_bound("iwae").value(given["log_w"]).mean().item() == pytest.approx(value, rel=1e-10)


def test_miwae_normalises_over_the_draws_of_a_group() -> None:
    given, value = vector("miwae_bound")
    groups_first = given["log_w"]
    miwae = make_bound("miwae", {"groups": 3, "samples": 5})
    assert miwae.value(groups_first.flatten(0, 1)).mean().item() == pytest.approx(value["miwae_M3_K5"], rel=1e-10)
    assert combined_bound(groups_first.transpose(0, 1)).mean().item() == pytest.approx(value["wrong_axis"], rel=1e-10)
    together = make_bound("iwae", {"samples": 15}).value(groups_first.flatten(0, 1)).mean().item()
    assert together == pytest.approx(value["iwae_15"], rel=1e-10)
    assert value["elbo"] < value["wrong_axis"] != value["miwae_M3_K5"] < value["iwae_15"]


def test_ciwae_is_a_share_of_the_elbo_and_the_rest_of_iwae() -> None:
    given, value = vector("ciwae_bound")
    ciwae = make_bound("ciwae", {"share": given["beta"], "samples": 5})
    assert ciwae.value(given["log_w"]).mean().item() == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("estimator", ["plain", "dreg"])
def test_bounds_meet_at_their_limits(estimator: str) -> None:
    """Of 12 draws: a group of one, groups of one, and shares of 0 and 1."""
    weights = log_weights(12, 5)
    elbo = make_bound("elbo").value(weights)

    def value(name: str, **options: Any) -> Tensor:
        return make_bound(name, {**options, "estimator": estimator}).value(weights)

    iwae = value("iwae", samples=12)
    torch.testing.assert_close(value("miwae", groups=1, samples=12), iwae, rtol=0, atol=0)
    torch.testing.assert_close(value("ciwae", share=0.0, samples=12), iwae, rtol=0, atol=0)
    torch.testing.assert_close(value("miwae", groups=12, samples=1), elbo)
    torch.testing.assert_close(value("ciwae", share=1.0, samples=12), elbo)
    one = weights[:1]
    assert torch.equal(make_bound("iwae", {"samples": 1, "estimator": estimator}).value(one), one[0])


def test_the_elbos_loss_is_the_sum_of_its_two_terms_to_the_last_bit() -> None:
    recon, rate = torch.rand(7), torch.rand(7)
    assert torch.equal(make_bound("elbo").loss(BoundTerms(recon, rate)), recon + rate)
    assert make_bound("elbo").samples == 1
    assert make_bound("elbo").label is None


@pytest.mark.parametrize("name", IMPORTANCE)
@pytest.mark.parametrize("estimator", ["plain", "dreg"])
def test_the_loss_is_minus_the_bound(name: str, estimator: str) -> None:
    bound = make_bound(name, {"estimator": estimator})
    weights, code = log_weights(bound.samples, 3), torch.zeros(bound.samples, 3, 2, dtype=torch.double)
    loss = bound.loss(BoundTerms(torch.zeros(3), torch.zeros(3), weights, code))
    assert torch.equal(loss, -bound.value(weights))
    assert bound.stops_posterior == (estimator == "dreg")


def test_only_dreg_needs_the_codes() -> None:
    weights, nothing = log_weights(5, 3), torch.zeros(3)
    plain, dreg = make_bound("iwae"), make_bound("iwae", {"estimator": "dreg"})
    assert torch.equal(plain.loss(BoundTerms(nothing, nothing, weights)), -plain.value(weights))
    with pytest.raises(ValueError, match="iwae_5 needs the weights and codes of 5 draws"):
        dreg.loss(BoundTerms(nothing, nothing, weights))
    with pytest.raises(ValueError, match="iwae_5 needs"):
        plain.loss(BoundTerms(nothing, nothing))


@pytest.mark.parametrize("name", IMPORTANCE)
def test_weights_that_differ_by_thousands_of_nats_give_finite_gradients(name: str) -> None:
    bound = make_bound(name, {"estimator": "dreg"})
    code = torch.zeros(bound.samples, 2, 1, requires_grad=True)
    weights = code.sum(2) - 5000 * torch.arange(bound.samples)[:, None]
    bound.loss(BoundTerms(torch.zeros(2), torch.zeros(2), weights, code)).sum().backward()
    assert code.grad is not None
    assert code.grad.isfinite().all()


def hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and probabilities of Gauss-Hermite quadrature for a standard normal."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(nodes), torch.from_numpy(mass) / math.sqrt(2 * math.pi)


# gradients -----------------------------------------------------------------------------------------------------------


class Line(nn.Module):
    """z ~ N(0, 1), x|z ~ N(w z + b, sx^2), q(z|x) = N(a x + c, exp(2 l))."""

    def __init__(self, p: dict[str, float]) -> None:
        super().__init__()
        for name, value in p.items():
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.double)))
        self.p: Any = self

    def draw(self, x: float, eps: Tensor, stopped: bool) -> tuple[Tensor, Tensor]:
        """log weights (K, B) and codes (K, B, 1) of noise (K, B)."""
        p = self.p
        mean, log_std = p.a * x + p.c, p.l
        code = mean + torch.exp(log_std) * eps[..., None]
        if stopped:
            mean, log_std = mean.detach(), log_std.detach()
        nothing = torch.zeros((), dtype=torch.double)
        log_joint = gaussian_log_prob(code, nothing, nothing)
        log_joint = log_joint + gaussian_log_prob(nothing + x, p.w * code + p.b, 2 * p.sx.log())
        return (log_joint - gaussian_log_prob(code, mean, 2 * log_std)).squeeze(-1), code


def line_gradients(given: dict[str, Any], eps: Tensor, name: str, **options: Any) -> tuple[Tensor, dict[str, float]]:
    """The bound (B,) on noise (K, B), and the gradients of its mean over B."""
    line, bound = Line(given["p"]), make_bound(name, options)
    weights, code = line.draw(given["x"], eps, bound.stops_posterior)
    value = -bound.loss(BoundTerms(torch.zeros(1), torch.zeros(1), weights, code))
    value.mean().backward()
    return value.detach(), {name: parameter.grad.item() for name, parameter in line.named_parameters()}


TOY: dict[str, Any] = {"x": 1.3, "p": {"w": 0.8, "b": 0.1, "sx": 0.5, "a": 0.5, "c": -0.2, "l": -0.4}}


@pytest.mark.parametrize("estimator", ["plain", "dreg"])
def test_gradients_are_those_of_the_papers(estimator: str) -> None:
    given, value = vector("dreg_gradients")
    bound, gradients = line_gradients(given, given["eps"][:, None], "iwae", samples=4, estimator=estimator)
    assert bound.item() == pytest.approx(value["bound"], rel=1e-10)
    assert gradients["c"] == pytest.approx(value[f"{estimator}_dc"], rel=1e-10)
    assert gradients["l"] == pytest.approx(value[f"{estimator}_dl"], rel=1e-10)


@pytest.mark.parametrize("estimator", ["plain", "dreg"])
def test_the_mean_gradient_is_that_of_the_mean_bound(estimator: str) -> None:
    """Quadrature over the noise of two draws, with 80 nodes for each: 6400 images, each with its probability."""
    given, value = vector("dreg_is_unbiased")
    nodes, mass = hermite(80)
    eps = torch.stack([nodes.repeat_interleave(80), nodes.repeat(80)])
    probability = (mass[:, None] * mass[None]).flatten()
    line = Line(given["p"])
    bound = make_bound("iwae", {"samples": 2, "estimator": estimator})
    weights, code = line.draw(given["x"], eps, bound.stops_posterior)
    mean = -(probability * bound.loss(BoundTerms(probability, probability, weights, code))).sum()
    mean.backward()
    assert mean.item() == pytest.approx(value["E_L2"], rel=1e-8)
    assert line.p.c.grad.item() == pytest.approx(value["dE_dc"], rel=1e-6)
    assert line.p.l.grad.item() == pytest.approx(value["dE_dl"], rel=1e-6)
    assert value["elbo"] < mean.item() < value["log_p_x"]


@pytest.mark.parametrize("name", IMPORTANCE)
def test_dreg_changes_the_gradients_of_the_encoder_only(name: str) -> None:
    eps = torch.randn(make_bound(name).samples, 6, dtype=torch.double)
    plain_value, plain = line_gradients(TOY, eps, name)
    value, dreg = line_gradients(TOY, eps, name, estimator="dreg")
    assert torch.equal(value, plain_value)
    assert all(dreg[decoder] == plain[decoder] for decoder in ("w", "b", "sx"))
    assert all(dreg[encoder] != pytest.approx(plain[encoder], rel=1e-3) for encoder in ("a", "c", "l"))


def test_with_one_draw_dreg_stops_the_posterior_and_changes_nothing_else() -> None:
    """Sticking the landing (Roeder et al., 2017)."""
    eps = torch.randn(1, 6, dtype=torch.double)
    _, dreg = line_gradients(TOY, eps, "iwae", samples=1, estimator="dreg")
    line = Line(TOY["p"])
    line.draw(TOY["x"], eps, stopped=True)[0].mean().backward()
    assert {name: parameter.grad.item() for name, parameter in line.named_parameters()} == pytest.approx(dreg)


def test_other_terms_use_the_tensor_that_the_code_was_copied_from() -> None:
    source = torch.randn(3, 2, 1, requires_grad=True)
    code = source.view_as(source)
    (doubly_reparametrised(code.sum(2)[None], code).sum() + 10 * source.sum()).backward()
    assert source.grad is not None
    weights = torch.softmax(source.detach()[..., 0], 0)
    torch.testing.assert_close(source.grad[..., 0], 10 + weights.square())


def test_a_code_that_the_weights_were_not_computed_from_is_an_error() -> None:
    code = torch.randn(3, 2, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="pass the tensor that the weights were computed from"):
        doubly_reparametrised(code.sum(2)[None], code.clone())


def split_gradients(given: dict[str, Any], eps: Tensor, **options: Any) -> tuple[Tensor, dict[str, float]]:
    """The loss of a bound that splits (B,) on noise (K, B), and the gradients of minus its mean over B."""
    bound, line = make_bound("piwae", options), Line(given["p"])
    parts = dict(line.named_parameters())

    def weights_for(trained: str) -> Tensor:
        chosen = {name: part if name in trained.split() else part.detach() for name, part in parts.items()}
        return Line.draw(SimpleNamespace(p=SimpleNamespace(**chosen)), given["x"], eps, stopped=False)[0]  # type: ignore[arg-type]

    weights = weights_for("w b sx"), weights_for("a c l")
    loss = bound.loss(BoundTerms(torch.zeros(1), torch.zeros(1), weights[0], None, weights[1]))
    (-loss).mean().backward()
    return loss.detach(), {name: parameter.grad.item() for name, parameter in line.named_parameters()}


def test_piwae_has_the_gradient_of_iwae_for_the_decoder_and_of_miwae_for_the_encoder() -> None:
    given, value = vector("piwae_gradients")
    loss, gradients = split_gradients(given, given["eps"].flatten()[:, None], groups=3, samples=4)
    assert loss.item() == pytest.approx(-value["iwae_12"], rel=1e-10)
    found = [gradients[name] for name in ("w", "c", "l")]
    assert found == pytest.approx([value[f"{of}"] for of in ("decoder_dw", "encoder_dc", "encoder_dl")], rel=1e-10)


def test_piwae_with_one_group_is_iwae() -> None:
    eps = torch.randn(12, 6, dtype=torch.double)
    loss, gradients = split_gradients(TOY, eps, groups=1, samples=12)
    bound, iwae = line_gradients(TOY, eps, "iwae", samples=12)
    torch.testing.assert_close(-loss, bound)
    assert gradients == pytest.approx(iwae)


def test_a_bound_that_splits_needs_both_sets_of_weights() -> None:
    weights, nothing = log_weights(64, 3), torch.zeros(3)
    with pytest.raises(ValueError, match="piwae_8x8 needs the weights of 64 draws, got None"):
        make_bound("piwae").loss(BoundTerms(nothing, nothing, weights))


def test_sticking_the_landing_is_dreg_with_one_draw() -> None:
    eps = torch.randn(1, 6, dtype=torch.double)
    value, gradients = line_gradients(TOY, eps, "elbo", estimator="stl")
    same, dreg = line_gradients(TOY, eps, "iwae", samples=1, estimator="dreg")
    torch.testing.assert_close(value, same)
    assert gradients == pytest.approx(dreg)


# probabilistic PCA: p(x) and q(z|x) are known ------------------------------------------------------------------------


def ppca_weights(given: dict[str, Any], mean: Tensor, factor: Tensor, draws: int, images: int) -> tuple[Tensor, Tensor]:
    """log weights (K, B) and codes (K, B, D) of q = N(mean, factor factor'), with its parameters stopped in log q."""
    code = mean + torch.randn(draws, images, 2, dtype=torch.double) @ factor.T
    q = torch.distributions.MultivariateNormal(mean.detach(), scale_tril=factor.detach())
    nothing = torch.zeros(2, dtype=torch.double)
    log_prior = gaussian_log_prob(code, nothing, nothing).sum(-1)
    logvar = torch.tensor(given["s2"], dtype=torch.double).log()
    log_likelihood = gaussian_log_prob(given["x"], code @ given["W"].T + given["b"], logvar)
    return log_likelihood.sum(-1) + log_prior - q.log_prob(code), code


def ppca_posterior(given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Mean and precision of the exact posterior."""
    precision = torch.eye(2, dtype=torch.double) + given["W"].T @ given["W"] / given["s2"]
    return torch.linalg.solve(precision, given["W"].T @ (given["x"] - given["b"]) / given["s2"]), precision


def test_at_the_exact_posterior_the_bound_is_the_evidence_and_the_dreg_gradient_is_zero() -> None:
    given, value = vector("ppca_evidence_and_elbo")
    mean, precision = ppca_posterior(given)
    mean = mean.requires_grad_()
    factor = torch.linalg.cholesky(torch.linalg.inv(precision)).requires_grad_()
    bound = make_bound("iwae", {"estimator": "dreg"})
    weights, code = ppca_weights(given, mean, factor, bound.samples, 3)
    torch.testing.assert_close(bound.value(weights), torch.full((3,), value["log_p_x"], dtype=torch.double))
    bound.loss(BoundTerms(torch.zeros(3), torch.zeros(3), weights, code)).sum().backward()
    assert mean.grad is not None
    assert factor.grad is not None
    assert mean.grad.abs().max() < 1e-12
    assert factor.grad.tril().abs().max() < 1e-12


def test_bounds_rise_with_the_number_of_draws_from_the_elbo_to_the_evidence() -> None:
    given, value = vector("ppca_evidence_and_elbo")
    mean, precision = ppca_posterior(given)
    factor = torch.diag(precision.diagonal().rsqrt())
    means = []
    for draws in (1, 2, 5):
        bounds = make_bound("iwae", {"samples": draws}).value(ppca_weights(given, mean, factor, draws, 40_000)[0])
        means.append((bounds.mean().item(), bounds.std().item() / 200))
    assert means[0][0] == pytest.approx(value["elbo_best_mean_field"], abs=4 * means[0][1])
    assert means[0][0] < means[1][0] < means[2][0] < value["log_p_x"] + 3 * means[2][1]


# torch.compile -------------------------------------------------------------------------------------------------------


def compiled_gradients(backend: str | None, estimator: str, breaks: bool = False) -> list[Tensor]:
    """Gradients of a small autoencoder; ``backend`` None stands for eager."""
    torch.manual_seed(1)
    encoder, decoder = nn.Linear(5, 6), nn.Linear(3, 5)
    x, eps = torch.randn(7, 5), torch.randn(4, 7, 3)
    bound = make_bound("iwae", {"samples": 4, "estimator": estimator})

    def loss(x: Tensor, eps: Tensor) -> Tensor:
        mean, logvar = encoder(x).chunk(2, 1)
        code = mean + torch.exp(0.5 * logvar) * eps
        log_q = gaussian_log_prob(code, mean.detach(), logvar.detach()).sum(-1)
        weights = gaussian_log_prob(code, torch.zeros(3), torch.zeros(3)).sum(-1) - log_q
        weights = weights + gaussian_log_prob(x, decoder(code), torch.zeros(5)).sum(-1)
        if breaks:
            torch._dynamo.graph_break()
        return bound.loss(BoundTerms(weights[0], weights[0], weights, code)).mean()

    step = loss if backend is None else torch.compile(loss, backend=backend, fullgraph=not breaks)
    step(x, eps).backward()
    return [p.grad for p in (encoder.weight, decoder.weight) if p.grad is not None]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.nightly)])
def test_the_compiled_dreg_gradient_is_the_eager_one(backend: str) -> None:
    eager, plain = compiled_gradients(None, "dreg"), compiled_gradients(None, "plain")
    compiled = compiled_gradients(backend, "dreg")
    torch.testing.assert_close(compiled, eager)
    assert (eager[0] - plain[0]).abs().max() > 0.01
    torch.testing.assert_close(eager[1], plain[1], rtol=0, atol=0)


def test_a_broken_graph_is_an_error_rather_than_another_gradient() -> None:
    with pytest.raises(RuntimeError, match=r"set compile=false or model\.bound_options\.estimator=plain"):
        compiled_gradients("aot_eager", "dreg", breaks=True)


# names and options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "label", "formula"),
    [
        ("elbo", {}, None, "recon + kl"),
        ("elbo", {"estimator": "stl"}, None, "-log w, with q's parameters stopped"),
        (
            "piwae",
            {},
            "piwae_8x8",
            "-log (1/64) (w1 + ... + w64); for the encoder mean over 8 groups of -log (1/8) (w1 + ... + w8)",
        ),
        ("iwae", {}, "iwae_5", "-log (1/5) (w1 + ... + w5)"),
        ("iwae", {"samples": 1}, "iwae_1", "-log w"),
        ("iwae", {"samples": 2, "estimator": "dreg"}, "iwae_2", "-log (1/2) (w1 + w2), DReG gradient"),
        ("miwae", {}, "miwae_8x8", "mean over 8 groups of -log (1/8) (w1 + ... + w8)"),
        ("ciwae", {}, "ciwae_0.05_64", "-0.05 mean log w - 0.95 log (1/64) (w1 + ... + w64)"),
    ],
)
def test_a_bound_says_what_it_is(name: str, options: dict[str, Any], label: str | None, formula: str) -> None:
    bound = make_bound(name, options)
    assert (bound.label, bound.formula()) == (label, formula)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("iwea", {}, r"model\.bound must be one of elbo, iwae, miwae, ciwae, piwae, got 'iwea'"),
        ("elbo", {"samples": 2}, r"model\.bound_options\.samples is not a setting here"),
        ("iwae", {"samples": 0}, r"model\.bound_options\.samples must be at least 1, got 0"),
        ("iwae", {"estimator": "stl"}, r"model\.bound_options\.estimator must be 'plain' or 'dreg', got 'stl'"),
        ("miwae", {"groups": -1}, r"model\.bound_options\.groups must be at least 1"),
        ("ciwae", {"share": 1.5}, r"model\.bound_options\.share must be at most 1, got 1\.5"),
    ],
)
def test_mistakes_in_settings_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_bound(name, options)
