"""Flow steps against recorded cases, autograd's Jacobians and closed forms, alone and as posteriors and priors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_kl, gaussian_log_prob
from vaezoo.models import Autoencoder
from vaezoo.nn.flows import (
    Autoregressive,
    Coupling,
    Gated,
    Made,
    Planar,
    Radial,
    gated_step,
    planar_step,
    pulled,
    pushed,
    radial_step,
)
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.priors import make_prior
from vaezoo.nn.priors.flows import FlowedNormal
from vaezoo.nn.priors.gaussian import StandardNormal

Make = Callable[..., Autoencoder]
CPU = torch.device("cpu")
FLOWS = ("planar", "radial", "iaf")
DIMENSIONS = 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: Tensor, wanted: Any, rtol: float = 1e-10) -> None:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=rtol, atol=1e-3 * rtol)


# recorded cases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_planar_and_radial_steps_are_those_of_the_recorded_cases(dtype: torch.dtype, rtol: float) -> None:
    given, wanted = vector("planar_flow")
    z, log_det = planar_step(*(given[name].to(dtype) for name in "zuw"), torch.tensor(given["b"], dtype=dtype))
    close(z, wanted["z"], rtol)
    close(log_det, wanted["logdet"], rtol)
    given, wanted = vector("radial_flow")
    raw = (torch.tensor(given[name], dtype=dtype) for name in ("alpha_raw", "beta_raw"))
    z, log_det = radial_step(given["z"].to(dtype), given["z0"].to(dtype), *raw)
    torch.testing.assert_close(z.double(), torch.tensor(wanted["z"], dtype=torch.float64), rtol=rtol, atol=0.1 * rtol)
    close(log_det, wanted["logdet"], rtol)


def test_inverse_autoregressive_steps_are_those_of_the_recorded_case() -> None:
    given, wanted = vector("iaf_log_q")
    z = given["mu"] + torch.exp(given["l"]) * given["eps"]
    log_q = gaussian_log_prob(z, given["mu"], 2 * given["l"]).sum()
    for step in range(2):
        z = z.flip(0) if step else z
        shift, gate = (given[m][step].tril(-1) @ z + given[c][step] for m, c in (("M", "cm"), ("S", "cs")))
        z, log_det = gated_step(z, shift, gate)
        log_q = log_q - log_det
    close(z, wanted["z"])
    close(log_q, wanted["log_q"])


class Recorded(nn.Module):
    """The networks of the recorded coupling, whose log scale is divided by the size of its tanh."""

    def __init__(self, raw: Callable[[Tensor], Tensor], shift: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.raw, self.shift = raw, shift

    def forward(self, kept: Tensor) -> Tensor:
        return torch.cat([self.raw(kept), self.shift(kept)], -1)


def recorded_prior() -> FlowedNormal:
    steps = [Coupling(2, 1, moves_first=first).double() for first in (False, True)]
    steps[0].network = Recorded(lambda u: 1.2 * u, lambda u: 0.7 * u - 0.1)
    steps[1].network = Recorded(lambda y: y, lambda y: 0.3 * y.square())
    for step, size in zip(steps, (0.5, 0.4), strict=True):
        nn.init.constant_(step.size, size)
    return FlowedNormal(StandardNormal(2, CPU), nn.ModuleList(steps))


@torch.no_grad()
def test_a_coupling_prior_has_the_density_of_the_recorded_case_and_integrates_to_one() -> None:
    given, wanted = vector("coupling_flow_prior")
    prior = recorded_prior()
    close(prior.log_prob(given["z"]), wanted["log_prob"])
    grid = torch.linspace(-15, 25, 1500, dtype=torch.float64)
    density = prior.log_prob(torch.cartesian_prod(grid, grid)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert density.item() == pytest.approx(wanted["integral"], abs=1e-4)


@torch.no_grad()
def test_draws_of_a_flow_have_the_entropy_of_the_base_and_the_mean_log_determinant() -> None:
    prior = recorded_prior()
    base = torch.randn(50_000, 2, generator=generator(), dtype=torch.float64)
    code, log_det = pushed(prior.steps, base)  # type: ignore[arg-type]
    surprise = -prior.log_prob(code)
    wanted = 1 + math.log(2 * math.pi) + log_det
    error = (surprise - wanted).std().item() / 50_000**0.5
    assert (surprise - wanted).mean().item() == pytest.approx(0, abs=4 * error)


# Jacobians and inverses ----------------------------------------------------------------------------------------------


def shaken(module: nn.Module, scale: float = 0.7) -> Any:
    """The module in double precision with random parameters, as if it had been trained."""
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, 0, scale)
    return module


def steps_of_every_kind() -> dict[str, Any]:
    torch.manual_seed(3)
    vectors = torch.randn(4, DIMENSIONS, dtype=torch.float64)
    return {
        "planar": Planar(vectors[0], vectors[1], torch.tensor(0.4).double()),
        "radial": Radial(vectors[2], torch.tensor(-0.3).double(), torch.tensor(0.9).double()),
        "iaf": Gated(shaken(Made(DIMENSIONS, 7, 2)), torch.randn(2, dtype=torch.float64)),
        "iaf reversed": Gated(shaken(Made(DIMENSIONS, 7, 2, reverse=True)), torch.randn(2, dtype=torch.float64)),
        "coupling": shaken(Coupling(DIMENSIONS, 5, moves_first=True)),
        "odd coupling": shaken(Coupling(5, 5, moves_first=False)),
        "maf": shaken(Autoregressive(DIMENSIONS, 6, reverse=False)),
        "maf reversed": shaken(Autoregressive(DIMENSIONS, 6, reverse=True)),
    }


@pytest.mark.parametrize("kind", steps_of_every_kind())
def test_the_log_determinant_is_that_of_the_jacobian(kind: str) -> None:
    step = steps_of_every_kind()[kind]
    z = torch.randn(6, 5 if "odd" in kind else DIMENSIONS, dtype=torch.float64)
    jacobian = vmap(jacrev(lambda code: step.push(code)[0]))(z)
    torch.testing.assert_close(step.push(z)[1], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-10)
    assert (torch.linalg.det(jacobian) > 0).all()


@pytest.mark.parametrize("kind", [kind for kind in steps_of_every_kind() if "coupling" in kind or "maf" in kind])
def test_pulling_undoes_pushing(kind: str) -> None:
    step = steps_of_every_kind()[kind]
    z = torch.randn(3, 6, 5 if "odd" in kind else DIMENSIONS, dtype=torch.float64)
    code, log_det = step.push(z)
    back, log_det_back = step.pull(code)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-10)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("dimensions", "hidden"), [(1, 1), (2, 1), (5, 4), (5, 11)])
def test_outputs_of_made_depend_on_all_dimensions_before_and_on_no_others(
    dimensions: int, hidden: int, reverse: bool
) -> None:
    network = shaken(Made(dimensions, hidden, 3, reverse=reverse))
    context = torch.randn(3, dtype=torch.float64)
    for output in (0, 1):
        jacobian = jacrev(lambda z, output=output: network(z, context)[output])(
            torch.randn(dimensions, dtype=torch.float64)
        )
        jacobian = jacobian.flip(0, 1) if reverse else jacobian
        depends = torch.ones(dimensions, dimensions).tril(-1).bool()
        assert torch.equal(jacobian != 0, depends)


def test_an_inverse_autoregressive_step_is_inverted_dimension_by_dimension() -> None:
    step = steps_of_every_kind()["iaf"]
    z = torch.randn(3, DIMENSIONS, dtype=torch.float64)
    code, _ = step.push(z)
    back = torch.zeros_like(code)
    for _ in range(DIMENSIONS):
        shift, gate = step.network(back, step.context)
        back = (code - torch.sigmoid(-gate) * shift) / torch.sigmoid(gate)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-10)


def test_planar_steps_are_invertible_whatever_u_and_w() -> None:
    u, w, z = 5 * torch.randn(3, 1000, 3)
    _, log_det = planar_step(z, u, w, torch.randn(1000))
    assert torch.isfinite(log_det).all()
    along = (w * u).sum(-1)
    assert (torch.nn.functional.softplus(along) - 1 >= -1).all()


@pytest.mark.parametrize("at", ["everything is 0", "the code is the centre"])
def test_gradients_are_finite_where_norms_vanish(at: str) -> None:
    parts = [torch.zeros(2, 3, requires_grad=True) for _ in range(3)]
    numbers = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    z, log_det = planar_step(*parts, numbers[0]) if at[0] == "e" else radial_step(parts[0], parts[1], *numbers)
    (z.sum() + log_det.sum()).backward()
    assert all(part.grad is None or torch.isfinite(part.grad).all() for part in (*parts, *numbers))


# posteriors ----------------------------------------------------------------------------------------------------------


def made(name: str, size: int = 3, images: int = 4, scale: float = 1.0) -> Any:
    torch.manual_seed(5)
    family = make_posterior_model(name, size)
    if name == "iaf":
        for parameter in family.parameters():
            nn.init.normal_(parameter, 0, 0.3)
    return family(scale * torch.randn(images, family.features(size)))


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_the_density_of_a_draw_follows_from_the_jacobian_of_the_noise(name: str) -> None:
    posterior = made(name)
    code, log_prob = posterior.draw(2, generator())
    noise = torch.stack(
        [torch.empty(4, 3).normal_(generator=(one := generator())), torch.empty(4, 3).normal_(generator=one)]
    )
    std = torch.exp(0.5 * posterior.base.logvar)

    def image(number: int) -> Callable[[Tensor], Tensor]:
        own = posterior.map(lambda part: part[number])
        return lambda eps: pushed(own.steps, own.base.mean + std[number] * eps)[0]

    for number in range(4):
        for draw in range(2):
            torch.testing.assert_close(image(number)(noise[draw, number]), code[draw, number])
            log_det = torch.linalg.slogdet(jacrev(image(number))(noise[draw, number])).logabsdet
            standard = gaussian_log_prob(noise[draw, number], torch.zeros(3), torch.zeros(3)).sum()
            torch.testing.assert_close(log_prob[draw, number], standard - log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_the_first_draws_do_not_depend_on_their_number_and_the_mean_is_the_image_of_the_base(name: str) -> None:
    posterior = made(name)
    one, five = (posterior.draw(count, generator(3)) for count in (1, 5))
    torch.testing.assert_close(one.code[0], five.code[0])
    assert torch.equal(five.first, five.code[0])
    torch.testing.assert_close(posterior.mean, pushed(posterior.steps, posterior.base.mean)[0])
    assert posterior.moments() is None
    assert not hasattr(posterior, "log_prob")


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_densities_of_draws_in_two_dimensions_integrate_to_one(name: str) -> None:
    """E[N(z) / q(z)] over draws of q is the integral of any density N, here a narrow one within q."""
    posterior = made(name, 2, 1, 0.5)
    code, log_q = posterior.draw(100_000, generator())
    centre, spread = code.mean(0), code.std(0)
    ratio = (gaussian_log_prob(code, centre, 2 * spread.log() - 1).sum(-1) - log_q).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / 100_000**0.5)


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_flows_start_at_the_diagonal_gaussian(name: str) -> None:
    """Exactly so where the encoder outputs that move a step are 0, whatever the others are."""
    family = make_posterior_model(name, 3)
    features = torch.randn(4, family.features(3))
    each = {"planar": (6, 7, slice(0, 3)), "radial": (6, 5, slice(4, 5))}
    if name in each:
        start, size, moving = each[name]
        for step in range(10):
            features[:, start + step * size : start + (step + 1) * size][:, moving] = 0
    posterior = family(features)
    code, log_prob = posterior.draw(3, generator())
    mean, logvar = features[:, :3], features[:, 3:6]
    noise, one = [], generator()
    for _ in range(3):
        noise.append(torch.empty(4, 3).normal_(generator=one))
    wanted = mean + torch.exp(0.5 * logvar) * torch.stack(noise)
    torch.testing.assert_close(code, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_prob, gaussian_log_prob(wanted, mean, logvar).sum(-1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_untrained_iaf_is_the_vae_in_distribution(make_model: Make) -> None:
    iaf, vae = make_model("iaf_vae", "model.latent_dim=3"), make_model("vae", "model.latent_dim=3")
    x, last = torch.rand(2, 1, 16, 16), len(list(vae.encoder)) - 1
    own = vae.state_dict()
    for name, weight in iaf.state_dict().items():
        if name in own:
            own[name] = weight[:6] if name.startswith(f"encoder.{last}") else weight
    vae.load_state_dict(own)
    posterior, plain = iaf.posterior(x), vae.posterior(x)
    assert posterior is not None
    assert plain is not None
    torch.testing.assert_close(posterior.mean, plain.mean, rtol=1e-5, atol=1e-5)
    draws = [q.draw(50, generator()) for q in (posterior, plain)]
    torch.testing.assert_close(draws[0].code, draws[1].code, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draws[0].log_prob, draws[1].log_prob, rtol=1e-4, atol=1e-4)
    many = posterior.draw(40_000, generator())
    rates = many.log_prob - StandardNormal(3, CPU).log_prob(many.code)
    exact = gaussian_kl(*plain.moments()).sum(1)  # type: ignore[misc]
    assert ((rates.mean(0) - exact).abs() < 4 * rates.std(0) / 200).all()


@pytest.mark.parametrize("name", FLOWS)
def test_what_needs_a_density_of_given_codes_or_moments_is_refused(name: str, make_model: Make) -> None:
    for settings, said in (
        (
            ["model.bound=iwae", "model.bound_options={estimator: dreg}"],
            "model.bound_options.estimator=dreg needs the density of given codes",
        ),
        (["model.penalty=total_correlation"], "needs a posterior of independent Gaussian dimensions"),
        (["model.prior=vamp"], "needs a posterior of independent Gaussian dimensions"),
        (["model.network=conv", "model.latent_dim=null", "model.code_channels=4"], "is for flat codes"),
    ):
        with pytest.raises(Exception, match=said):
            make_model("vae", f"model.posterior={name}", *settings)
    assert make_model("vae", f"model.posterior={name}", "model.bound=iwae").loss_terms(torch.rand(2, 1, 16, 16))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("planar", {"steps": 0}, "model.posterior_options.steps must be at least 1"),
        ("iaf", {"hidden": 8}, "model.posterior_options.hidden must be at least 9, for codes of 10 dimensions, got 8"),
        ("iaf", {"context": 0}, "model.posterior_options.context must be at least 1"),
        ("radial", {"hidden": 8}, "model.posterior_options.hidden is not a setting here"),
    ],
)
def test_a_mistake_in_a_posterior_is_one_sentence(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said):
        make_posterior_model(name, 10, options)


# priors --------------------------------------------------------------------------------------------------------------

KINDS = ("coupling", "maf")


def prior_of(kind: str, dimensions: int, trained: bool) -> Any:
    model = make_prior("flow", (1, 8, 8), dimensions, {"kind": kind, "steps": 3, "hidden": 8})
    if trained:
        torch.manual_seed(1)
        shaken(model, 0.4)
    return model(lambda images: images, CPU)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_untrained_flow_prior_is_exactly_the_standard_normal(kind: str) -> None:
    prior, standard = prior_of(kind, 3, trained=False), StandardNormal(3, CPU)
    code = torch.randn(5, 4, 3)
    torch.testing.assert_close(prior.log_prob(code), standard.log_prob(code))
    assert torch.equal(prior.sample(6, generator()), standard.sample(6, generator()))


@torch.no_grad()
def test_a_vae_with_an_untrained_flow_prior_is_the_vae_in_expectation(make_model: Make) -> None:
    model = make_model("vae", "model.prior=flow", "model.latent_dim=3")
    posterior, prior = model.posterior(torch.rand(2, 1, 16, 16)), model.prior()
    assert posterior is not None
    assert prior is not None
    assert posterior.kl_by(prior) == "whole"
    draw = posterior.draw(40_000, generator())
    rates = draw.log_prob - prior.log_prob(draw.code)
    exact = gaussian_kl(*posterior.moments()).sum(1)  # type: ignore[misc]
    assert ((rates.mean(0) - exact).abs() < 4 * rates.std(0) / 200).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_flow_prior_integrates_to_one_and_its_draws_follow_it(kind: str) -> None:
    prior = prior_of(kind, 2, trained=True)
    grid = torch.linspace(-25, 25, 1000, dtype=torch.float64)
    log_prob = prior.log_prob(torch.cartesian_prod(grid, grid))
    cell = (grid[1] - grid[0]) ** 2
    assert (log_prob.exp().sum() * cell).item() == pytest.approx(1, abs=1e-3)
    entropy = -(log_prob.exp() * log_prob).sum() * cell
    surprise = -prior.log_prob(prior.sample(50_000, generator()).double())
    assert surprise.mean().item() == pytest.approx(entropy.item(), abs=0.01 + 4 * surprise.std().item() / 50_000**0.5)
    before, log_det = pulled(prior.steps, prior.sample(5, generator()).double())
    torch.testing.assert_close(pushed(prior.steps, before)[1], -log_det, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_keep_their_precision_under_autocast_and_move_as_a_whole(kind: str) -> None:
    prior = prior_of(kind, 3, trained=True)
    code = torch.randn(5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = prior.log_prob(code)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, prior.log_prob(code))
    torch.testing.assert_close(found, prior.log_prob(code.double()).float(), rtol=1e-5, atol=1e-5)
    moved = prior.to(torch.device("cpu"))
    assert torch.equal(moved.log_prob(code), prior.log_prob(code))
    assert not prior.factorises
    assert prior.moments() is None


@pytest.mark.parametrize(
    ("dimensions", "options", "said"),
    [
        (1, {}, "model.prior_options.kind=coupling needs a code of at least 2 dimensions, got 1; set it to maf"),
        (10, {"kind": "maf", "hidden": 3}, "model.prior_options.hidden must be at least 9, for codes of 10 dimensions"),
        (10, {"kind": "spline"}, "model.prior_options.kind must be 'coupling' or 'maf', got 'spline'"),
        (10, {"steps": 0}, "model.prior_options.steps must be at least 1"),
    ],
)
def test_a_mistake_in_a_prior_is_one_sentence(dimensions: int, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said):
        make_prior("flow", (1, 8, 8), dimensions, options)


def test_a_maf_of_one_dimension_is_a_gaussian() -> None:
    prior = prior_of("maf", 1, trained=True)
    assert prior.log_prob(torch.randn(4, 1)).shape == (4,)
