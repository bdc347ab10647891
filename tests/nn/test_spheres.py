"""Distributions on the sphere against recorded cases, quadrature, scipy, and what must hold of any of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.models import Autoencoder
from vaezoo.nn import spheres
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.posteriors.base import sampled_kl
from vaezoo.nn.posteriors.spherical import PowerSpherical, VonMisesFisher
from vaezoo.nn.priors import make_prior
from vaezoo.nn.priors.spherical import UniformOnSphere

Make = Callable[..., Autoencoder]
CPU = torch.device("cpu")
FAMILIES: dict[str, tuple[Any, int]] = {
    "power": (PowerSpherical, 5),
    "circle": (PowerSpherical, 2),
    "vmf": (VonMisesFisher, 3),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, *kappas: float) -> Any:
    """One direction for all concentrations, in double precision."""
    family, dimensions = FAMILIES[name]
    direction = spheres.on_sphere(torch.randn(1, dimensions, generator=generator(4), dtype=torch.float64))
    kappa = torch.tensor(kappas, dtype=torch.float64)
    return family(direction.expand(len(kappas), -1), kappa)


def area(dimension: int) -> float:
    return math.exp(spheres.log_area(dimension))


def of_first_coordinate(posterior: Any, function: Callable[[float], float]) -> float:
    """E[function(mean.z)] by quadrature over the angle, for a posterior of a single image."""
    dimensions = posterior.mean.shape[1]
    side = spheres.on_sphere(torch.linspace(1, 2, dimensions, dtype=torch.float64))
    side = spheres.on_sphere(side - (side * posterior.mean[0]).sum() * posterior.mean[0])

    def weighed(angle: float) -> float:
        code = math.cos(angle) * posterior.mean + math.sin(angle) * side
        density = posterior.log_prob(code).exp().item()
        return function(math.cos(angle)) * density * math.sin(angle) ** (dimensions - 2)

    return area(dimensions - 1) * integrate.quad(weighed, 0, math.pi, epsabs=1e-12, limit=200)[0]


# recorded cases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_power_spherical_distributions_are_the_recorded_ones(dtype: torch.dtype, rtol: float) -> None:
    given, wanted = vector("power_spherical")
    for (dimension, number), expected in zip(given["cases"], wanted, strict=True):
        kappa = torch.tensor(number, dtype=dtype)
        log_normaliser = spheres.power_spherical_log_normaliser(dimension, kappa).item()
        kl = spheres.power_spherical_kl(dimension, kappa).item()
        assert log_normaliser == pytest.approx(expected["log_normaliser"], rel=rtol)
        assert kl == pytest.approx(expected["kl"], rel=rtol)
        assert spheres.log_area(dimension) - kl == pytest.approx(expected["entropy"], rel=rtol, abs=rtol)


def test_the_kl_of_von_mises_fisher_is_the_recorded_one() -> None:
    given, wanted = vector("vmf_kl_to_uniform")
    cases = [(kappa, kl) for (dimension, kappa), kl in zip(given["cases"], wanted, strict=True) if dimension == 3]
    assert len(cases) == 2
    for kappa, kl in cases:
        found = spheres.von_mises_fisher_kl(torch.tensor(kappa, dtype=torch.float64)).item()
        assert found == pytest.approx(kl, rel=1e-8)
        assert spheres.von_mises_fisher_kl(torch.tensor(kappa)).item() == pytest.approx(kl, rel=1e-4)


# building blocks -----------------------------------------------------------------------------------------------------


def test_areas_are_the_known_ones() -> None:
    assert [area(dimension) for dimension in (1, 2, 3, 4)] == pytest.approx(
        [2, 2 * math.pi, 4 * math.pi, 2 * math.pi**2]
    )


def test_a_reflection_takes_the_first_unit_vector_to_any_direction_and_keeps_norms() -> None:
    first = torch.eye(1, 3)[0]
    near = spheres.on_sphere(torch.tensor([[1.0, 1e-4, 0.0], [1.0, 1e-8, 0.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    directions = torch.cat([near, spheres.on_sphere(torch.randn(100, 3))])
    torch.testing.assert_close(spheres.turned(first.expand(104, 3), directions), directions, rtol=0, atol=2e-6)
    code = spheres.on_sphere(torch.randn(104, 3))
    norms = spheres.turned(code, directions).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(104), rtol=0, atol=1e-6)
    leaf = directions.clone().requires_grad_()
    spheres.turned(code, leaf).sum().backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_a_code_of_zero_has_a_direction_and_finite_gradients() -> None:
    code = torch.zeros(2, 4, requires_grad=True)
    found = spheres.on_sphere(code)
    assert torch.equal(found, torch.eye(1, 4).expand(2, 4))
    found.sum().backward()
    assert code.grad is not None
    assert torch.isfinite(code.grad).all()


@pytest.mark.parametrize("shape", [0.7, 1.5, 2.0, 5.5, 30.0, 1e3, 1e5])
def test_gamma_quantiles_are_those_of_scipy_with_exact_derivatives(shape: float) -> None:
    noise = torch.linspace(-6, 6, 121, dtype=torch.float64)
    a = torch.full_like(noise, shape).requires_grad_()
    found = spheres.gamma_quantile(a, noise)
    left, right = special.ndtr(noise.numpy()), special.ndtr(-noise.numpy())
    inverse: Callable[[float], Any] = lambda at: np.where(  # noqa: E731
        noise < 0, special.gammaincinv(at, left), special.gammainccinv(at, right)
    )
    torch.testing.assert_close(found.detach(), torch.from_numpy(inverse(shape)), rtol=1e-9, atol=0)
    found.sum().backward()
    step = 1e-4 * shape**0.5
    numeric = torch.from_numpy((inverse(shape + step) - inverse(shape - step)) / (2 * step))
    assert a.grad is not None
    torch.testing.assert_close(a.grad, numeric, rtol=1e-5, atol=1e-9)


def test_gamma_variables_are_distributed_as_such() -> None:
    drawn = spheres.gamma_quantile(torch.tensor(2.5), torch.randn(20_000, generator=generator()))
    assert stats.kstest(drawn.numpy(), stats.gamma(2.5).cdf).pvalue > 0.01


# posteriors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 40.0])
def test_densities_integrate_to_one(name: str, kappa: float) -> None:
    assert of_first_coordinate(made(name, kappa), lambda _: 1.0) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 40.0])
def test_the_kl_is_that_by_quadrature_and_of_draws(name: str, kappa: float) -> None:
    posterior = made(name, kappa)
    prior = UniformOnSphere(posterior.mean.shape[1], CPU)
    exact = posterior.kl(prior, posterior.draw())
    assert exact.shape == (1, 1)
    assert posterior.kl_by(prior) == "whole"
    draw = posterior.draw(50_000, generator())
    rates = draw.log_prob - prior.log_prob(draw.code)
    assert sampled_kl(prior, draw).item() == pytest.approx(exact.item(), abs=4 * rates.std().item() / 50_000**0.5)
    side = spheres.on_sphere(posterior.mean.flip(1) * torch.linspace(1, 2, posterior.mean.shape[1]).double())
    side = spheres.on_sphere(side - (side * posterior.mean).sum() * posterior.mean)

    def log_q(t: float) -> float:
        return float(posterior.log_prob(t * posterior.mean + math.sqrt(max(0.0, 1 - t * t)) * side))

    by_quadrature = of_first_coordinate(posterior, lambda t: log_q(t) + spheres.log_area(posterior.mean.shape[1]))
    assert exact.item() == pytest.approx(by_quadrature, abs=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_concentration_there_is_no_kl(name: str) -> None:
    posterior = made(name, 1e-6)
    assert posterior.kl(UniformOnSphere(posterior.mean.shape[1], CPU), posterior.draw()).item() == pytest.approx(
        0, abs=1e-9
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_of_a_draw_is_that_of_its_code(name: str) -> None:
    posterior = made(name, 1.5, 7.0, 2000.0)
    code, log_prob = posterior.draw(20, generator())
    assert code.shape == (20, 3, posterior.mean.shape[1])
    torch.testing.assert_close(posterior.log_prob(code), log_prob, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kappa", [1.0, 50.0, 1e5, 1e7])
@pytest.mark.parametrize("name", FAMILIES)
def test_draws_in_single_precision_are_on_the_sphere_and_finite(name: str, kappa: float) -> None:
    posterior = type(made(name, 1.0))(*(part.float().requires_grad_() for part in made(name, *(kappa,) * 50)))
    draw = posterior.draw(20, generator())
    norms = draw.code.detach().norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(20, 50), rtol=0, atol=1e-6)
    assert draw.log_prob.dtype == torch.float32
    in_double = type(posterior)(*(part.detach().double() for part in posterior))
    log_prob = in_double.log_prob(draw.code.detach().double())
    if kappa < 1e6:  # beyond, the rounding of codes is seen
        torch.testing.assert_close(draw.log_prob.double(), log_prob, rtol=0, atol=1e-3 * max(1.0, kappa**0.5))
    (draw.log_prob.sum() + draw.code.sum()).backward()
    assert all(torch.isfinite(part.grad).all() for part in posterior)


@pytest.mark.parametrize("kappa", [1.0, 6.0, 80.0])
def test_power_spherical_draws_have_the_mean_cosine_and_distribution(kappa: float) -> None:
    posterior = made("power", kappa)
    cosine = (posterior.draw(100_000, generator()).code * posterior.mean).sum(-1)[:, 0]
    a, b = 2 + kappa, 2.0
    assert cosine.mean().item() == pytest.approx((a - b) / (a + b), abs=4 * cosine.std().item() / 100_000**0.5)
    assert stats.kstest(((1 + cosine[:20_000]) / 2).numpy(), stats.beta(a, b).cdf).pvalue > 0.01


def test_draws_of_von_mises_fisher_are_those_of_scipy() -> None:
    posterior = made("vmf", 4.0)
    cosine = (posterior.draw(100_000, generator()).code * posterior.mean).sum(-1)[:, 0]
    assert cosine.mean().item() == pytest.approx(1 / math.tanh(4) - 1 / 4, abs=4 * cosine.std().item() / 100_000**0.5)
    wanted = stats.vonmises_fisher(posterior.mean[0].numpy(), 4.0)
    code = posterior.draw(5, generator()).code[:, 0]
    torch.testing.assert_close(posterior.log_prob(code[:, None])[:, 0], torch.from_numpy(wanted.logpdf(code.numpy())))


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_are_symmetric_around_the_direction(name: str) -> None:
    posterior = made(name, 3.0)
    code = posterior.draw(100_000, generator()).code[:, 0]
    aside = code - (code * posterior.mean).sum(1, keepdim=True) * posterior.mean
    assert (aside.mean(0).abs() < 4.5 * aside.std(0) / 100_000**0.5).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("power", [1, 2])
def test_gradients_in_kappa_are_those_by_quadrature(name: str, power: int) -> None:
    wanted = (
        of_first_coordinate(made(name, 3.01), lambda t: t**power)
        - of_first_coordinate(made(name, 2.99), lambda t: t**power)
    ) / 0.02
    posterior = made(name, *(3.0,) * 100_000)
    kappa = posterior.kappa.requires_grad_()
    code = posterior._replace(kappa=kappa).draw(1, generator()).code[0]
    each = torch.autograd.grad((code * posterior.mean).sum(1).pow(power).sum(), kappa)[0]
    assert each.mean().item() == pytest.approx(wanted, abs=4 * each.std().item() / 100_000**0.5)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_in_the_direction_are_those_of_the_turned_distribution(name: str) -> None:
    """E[z.v] is the mean cosine times mean.v, so its gradient along the sphere is the mean cosine times v there."""
    dimensions = FAMILIES[name][1]
    raw = torch.randn(dimensions, generator=generator(9), dtype=torch.float64).requires_grad_()
    v = torch.randn(dimensions, generator=generator(8), dtype=torch.float64)
    posterior = FAMILIES[name][0](spheres.on_sphere(raw).expand(50_000, -1), torch.full((50_000,), 5.0).double())
    (posterior.draw(1, generator()).code[0] @ v).mean().backward()
    cosine = of_first_coordinate(made(name, 5.0), lambda t: t)
    wanted = torch.autograd.grad(cosine * (spheres.on_sphere(raw) @ v), raw)[0]
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, wanted, rtol=0, atol=0.03)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_draws_do_not_depend_on_their_number(name: str) -> None:
    one, five = (made(name, 2.0, 3.0).draw(count, generator(3)).code for count in (1, 5))
    assert torch.equal(one[0], five[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_detached_parameters_get_no_gradients(name: str) -> None:
    live = type(made(name, 1.0))(*(part.clone().requires_grad_() for part in made(name, 2.0, 3.0)))
    code = spheres.on_sphere(torch.randn(2, 2, live.mean.shape[1]).double()).requires_grad_()
    live.detached().log_prob(code).sum().backward()
    assert code.grad is not None
    assert all(part.grad is None for part in live)
    assert live.moments() is None


@pytest.mark.parametrize(("name", "dimensions"), [("power_spherical", 10), ("von_mises_fisher", 3)])
def test_kappa_starts_where_it_is_told_and_stays_above_one(name: str, dimensions: int) -> None:
    for options, start in (({}, dimensions), ({"kappa_start": 700.0}, 700.0), ({"kappa_start": 1.5}, 1.5)):
        family = make_posterior_model(name, dimensions, options)
        posterior = family(torch.zeros(2, family.features(dimensions)))
        torch.testing.assert_close(posterior.kappa, torch.full((2,), float(start)), rtol=1e-4, atol=0)
    assert (family(torch.full((1, dimensions + 1), -50.0)).kappa >= 1).all()
    code = torch.randn(4, dimensions)
    torch.testing.assert_close(family.project(code).norm(dim=1), torch.ones(4))


# with a prior, and as models -----------------------------------------------------------------------------------------


def test_the_uniform_prior_is_uniform() -> None:
    prior = UniformOnSphere(3, CPU)
    code = prior.sample(20_000, generator())
    torch.testing.assert_close(code.norm(dim=1), torch.ones(20_000))
    assert prior.log_prob(code)[0].item() == pytest.approx(-math.log(4 * math.pi))
    assert (code.mean(0).abs() < 4.5 / (3 * 20_000) ** 0.5).all()
    assert stats.kstest(code[:, 1].numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01  # Archimedes
    assert not prior.factorises
    assert prior.moments() is None
    assert prior.to(CPU) == prior


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model=spherical_vae", "model.prior=normal"], "prior=normal and the codes of SphericalVAE do not go"),
        (
            ["model=spherical_vae", "model.prior=mixture"],
            "do not go together, because only one of them is on the sphere",
        ),
        (["model=vae", "model.prior=uniform_sphere"], "prior=uniform_sphere and the codes of VAE do not go"),
        (["model=spherical_vae", "model.prior=vamp"], "needs a posterior of independent Gaussian dimensions"),
        (["model=spherical_vae", "model.penalty=total_correlation"], "needs a posterior of independent Gaussian"),
        (["model=spherical_vae", "model.posterior=von_mises_fisher"], "for model.latent_dim=3 only, got 11"),
        (["model=spherical_vae", "model.latent_dim=1"], "model.latent_dim of codes on a sphere must be at least 2"),
        (["model=ae", "model.prior=uniform_sphere", "model.latent_dim=1"], "must be at least 2, got 1"),
        (["model=spherical_vae", "model.posterior_options={kappa_start: 1}"], "kappa_start must be above 1"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(settings: list[str], said: str, make_model: Make) -> None:
    with pytest.raises(Exception, match=said):
        make_model(settings[0].removeprefix("model="), *settings[1:])


def test_a_prior_of_one_dimension_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be at least 2"):
        make_prior("uniform_sphere", (1, 8, 8), 1)


def on_sphere(code: Tensor) -> bool:
    return bool(((code.norm(dim=-1) - 1).abs() < 1e-6).all())


@torch.no_grad()
def test_codes_paths_and_samples_of_a_model_are_on_the_sphere(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("spherical_vae", "model.latent_dim=4").eval()
    one, other = torch.rand(2, 3, 1, 16, 16)
    decoded: list[Tensor] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda code: decoded.append(code) or decode(code))
    model.reconstruct(one)
    model.sample(5)
    default = model.interpolate(one, other, steps=5)
    arcs, chords = (model.interpolate(one, other, steps=5, method=method) for method in ("spherical", "linear"))
    assert all(on_sphere(code) for code in decoded)
    assert torch.equal(default, arcs)
    assert not torch.equal(default, chords)
    path = decoded[2].view(3, 5, 4)
    angles = (path[:, 1:] * path[:, :-1]).sum(-1).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand_as(angles), rtol=0, atol=2e-3)


def test_a_sphere_has_one_dimension_less_than_coordinates(make_model: Make) -> None:
    sphere, flat = make_model("spherical_vae"), make_model("vae")
    assert (sphere.latent_dim, sphere.manifold_dim) == (11, 10)
    assert flat.manifold_dim == flat.latent_dim == 10
    assert sphere.code_bits == flat.code_bits == 320


@pytest.mark.parametrize("estimator", ["plain", "dreg"])
def test_importance_weighted_bounds_work_on_the_sphere(estimator: str, make_model: Make) -> None:
    settings = ["model.bound=iwae", f"model.bound_options={{estimator: {estimator}}}"]
    model, x = make_model("spherical_vae", *settings), torch.rand(3, 1, 16, 16)
    terms = model.loss_terms(x)
    model.objective(terms, model.weights()).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
