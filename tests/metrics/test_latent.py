"""The averaged KL taken apart, against Gaussians whose parts have closed forms and against brute force."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.metrics.latent import Decomposition, aggregate_log_density, decompose, moments_kl
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian, FullGaussian
from vaezoo.nn.priors.gaussian import StandardNormal
from vaezoo.nn.priors.mixtures import Mixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts(mean: Tensor, logvar: Tensor, **settings: Any) -> Decomposition:
    return decompose(DiagonalGaussian(mean, logvar), StandardNormal(mean.shape[-1], mean.device), **settings)


def gaussian_means(count: int, covariance: Tensor) -> Tensor:
    """Means with exactly this covariance and mean 0, or nearly: antithetic, then whitened."""
    noise = torch.randn(count // 2, len(covariance), generator=generator(1), dtype=torch.float64)
    noise = torch.cat([noise, -noise])
    white = torch.linalg.cholesky(torch.linalg.inv(noise.T @ noise / count))
    return noise @ white @ torch.linalg.cholesky(covariance).T


def check(result: Decomposition, expected: dict[str, float], bias: float = 0.0) -> None:
    for name, value in expected.items():
        error = result.standard_errors[name]
        assert getattr(result, name) == pytest.approx(value, abs=3.5 * error + bias), name


def test_gaussian_means_give_the_closed_forms_of_a_gaussian_aggregate() -> None:
    """Means N(0, 0.75 C') and variances 0.25 make an aggregate N(0, C) with correlation 0.9 and unit variances."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    variance = torch.tensor([0.05, 0.05], dtype=torch.float64)
    mean = gaussian_means(6000, covariance - variance.diag())
    result = parts(mean, variance.log().expand_as(mean), samples=4000, generator=generator())
    total_correlation = -0.5 * math.log(1 - 0.81)
    assert total_correlation == pytest.approx(0.8303656, abs=1e-7)
    information = 0.5 * (torch.logdet(covariance) - variance.log().sum()).item()
    expected = {
        "total_correlation": total_correlation,
        "mutual_information": information,
        "dimensionwise_kl": 0.0,
        "aggregate_kl": total_correlation,
    }
    check(result, expected, bias=0.02)  # 6000 posteriors are not quite a Gaussian
    assert result.kl == pytest.approx(information + total_correlation, abs=1e-6)


def test_dimensionwise_kl_is_that_of_the_marginals() -> None:
    """Marginals N(0, 4) and N(0, 1/4), without any dependence."""
    covariance = torch.tensor([4.0, 0.25], dtype=torch.float64).diag()
    variance = torch.tensor([0.4, 0.1], dtype=torch.float64)
    mean = gaussian_means(6000, covariance - variance.diag())
    result = parts(mean, variance.log().expand_as(mean), samples=4000, generator=generator())
    prior = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    expected = kl_divergence(MultivariateNormal(prior.mean, covariance), prior).item()
    check(result, {"dimensionwise_kl": expected, "aggregate_kl": expected, "total_correlation": 0}, bias=0.02)


def random_posteriors(count: int, dimensions: int) -> tuple[Tensor, Tensor]:
    mean = torch.randn(count, dimensions, generator=generator(2))
    return mean, torch.randn(count, dimensions, generator=generator(3)) - 1


def test_the_mixture_is_that_of_torch() -> None:
    mean, logvar = random_posteriors(40, 3)
    codes = torch.randn(25, 3, generator=generator(4), dtype=torch.float64)
    mixture = torch.distributions.MixtureSameFamily
    uniform = torch.distributions.Categorical(torch.ones(40, dtype=torch.float64))
    parts = torch.distributions.Normal(mean.double(), (0.5 * logvar.double()).exp())
    joint = mixture(uniform, torch.distributions.Independent(parts, 1)).log_prob(codes)
    by_dimension = torch.distributions.Categorical(torch.ones(3, 40, dtype=torch.float64))
    marginals = mixture(by_dimension, torch.distributions.Normal(parts.loc.T, parts.scale.T)).log_prob(codes)
    for chunk in (1, 90, 2**17):
        log_joint, log_marginals = aggregate_log_density(codes, mean.double(), logvar.double(), chunk=chunk)
        torch.testing.assert_close(log_joint, joint)
        torch.testing.assert_close(log_marginals, marginals)


def test_two_posteriors_on_a_line_against_numerical_integration() -> None:
    mean, logvar = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.0], [0.0]])
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    each = torch.distributions.Normal(mean.double(), (0.5 * logvar.double()).exp()).log_prob(grid)
    mixture = each.logsumexp(0) - math.log(2)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    step = 24 / 200_000
    information = (each.exp() * (each - mixture)).sum().item() * step / 2
    marginal = (mixture.exp() * (mixture - prior)).sum().item() * step
    result = parts(mean, logvar, samples=40_000, generator=generator())
    check(result, {"mutual_information": information, "dimensionwise_kl": marginal, "aggregate_kl": marginal})
    assert result.total_correlation == pytest.approx(0, abs=1e-12)
    assert max(result.standard_errors.values()) < 0.01


def test_the_parts_add_up_to_the_averaged_kl() -> None:
    mean, logvar = random_posteriors(300, 6)
    result = parts(mean, logvar, samples=6000, generator=generator())
    total = result.mutual_information + result.total_correlation + result.dimensionwise_kl
    assert result.kl == pytest.approx(gaussian_kl(mean, logvar).sum(1).mean().item(), rel=1e-6)
    assert result.aggregate_kl == pytest.approx(result.total_correlation + result.dimensionwise_kl, abs=1e-12)
    error = 3 * (result.standard_errors["mutual_information"] + result.standard_errors["aggregate_kl"])
    assert total == pytest.approx(result.kl, abs=error)
    assert error < 0.6


def test_a_collapsed_posterior_has_nothing_in_any_part() -> None:
    mean = 1e-3 * torch.randn(500, 4, generator=generator())
    result = parts(mean, torch.zeros(500, 4), generator=generator())
    for name in ("kl", "mutual_information", "total_correlation", "dimensionwise_kl", "aggregate_kl"):
        assert getattr(result, name) == pytest.approx(0, abs=1e-4)
    assert not result.saturated


def test_posteriors_far_apart_tell_every_image() -> None:
    mean = 100.0 * torch.arange(64.0)[:, None].expand(64, 2)
    result = parts(mean, torch.zeros(64, 2), generator=generator())
    assert result.mutual_information == pytest.approx(math.log(64), abs=1e-9)
    assert result.total_correlation == pytest.approx(math.log(64), abs=1e-9)  # each dimension tells the other
    assert result.saturated


@pytest.mark.parametrize("dimensions", [1, 5, 40])
@pytest.mark.parametrize("shift", [-6.0, 0.0, 2.0])
def test_the_bounds_of_mutual_information_and_total_correlation_hold(dimensions: int, shift: float) -> None:
    mean, logvar = random_posteriors(100, dimensions)
    result = parts(mean, logvar + shift, samples=500, generator=generator())
    error = result.standard_errors["mutual_information"]
    assert -3 * error <= result.mutual_information <= min(math.log(100) + 1e-9, result.kl + 3 * error)
    assert result.total_correlation >= -3 * result.standard_errors["total_correlation"] - 1e-9


def test_the_standard_errors_are_the_spread_over_draws() -> None:
    mean, logvar = random_posteriors(200, 3)
    results = [parts(mean, logvar, samples=400, generator=generator(seed)) for seed in range(100)]
    for name, error in results[0].standard_errors.items():
        spread = torch.tensor([getattr(result, name) for result in results]).std().item()
        assert 0.7 * error < spread < 1.2 * error, name


def test_an_image_more_often_in_the_set_is_no_new_information() -> None:
    mean, logvar = random_posteriors(50, 2)
    once, twice = (
        parts(mean.repeat(times, 1), logvar.repeat(times, 1), samples=20_000, generator=generator()) for times in (1, 2)
    )
    check(twice, {name: getattr(once, name) for name in once.standard_errors}, bias=0.03)


def test_more_images_than_wanted_are_cut_to_a_number_that_is_reported() -> None:
    mean, logvar = random_posteriors(90, 2)
    cut = parts(mean, logvar, posteriors=30, samples=50, generator=generator())
    assert (cut.n, cut.samples) == (30, 50)
    assert cut == parts(mean, logvar, posteriors=30, samples=50, generator=generator())
    assert cut.kl != parts(mean, logvar, posteriors=30, samples=50, generator=generator(1)).kl
    assert parts(mean, logvar, generator=generator()).n == 90


def test_the_chunk_changes_nothing() -> None:
    mean, logvar = random_posteriors(50, 3)
    small, large = (parts(mean, logvar, samples=40, chunk=chunk, generator=generator()) for chunk in (1, 2**20))
    for name in small.standard_errors:
        assert getattr(small, name) == pytest.approx(getattr(large, name), rel=1e-12)


def test_what_does_not_fit_is_refused() -> None:
    for mean, logvar, samples in (
        (torch.zeros(3, 2), torch.zeros(3, 1), 9),
        (torch.zeros(0, 2), torch.zeros(0, 2), 9),
        (torch.zeros(3, 2), torch.zeros(3, 2), 1),
    ):
        with pytest.raises(ValueError, match=r"needs posteriors with means \(N, D\) and at least 2 samples"):
            parts(mean, logvar, samples=samples, generator=generator())


def test_posteriors_of_any_family_have_the_parts_that_they_can_have() -> None:
    """A full Gaussian with a diagonal factor is the diagonal one."""
    mean, logvar = random_posteriors(60, 3)
    prior = StandardNormal(3, mean.device)
    diagonal = decompose(DiagonalGaussian(mean, logvar), prior, samples=500, generator=generator())
    factor = (0.5 * logvar).exp().diag_embed()
    for chunk in (1, 2**17):
        full = decompose(FullGaussian(mean, factor), prior, samples=500, generator=generator(), chunk=chunk)
        assert full.total_correlation is None
        assert full.dimensionwise_kl is None
        for name in ("kl", "mutual_information", "aggregate_kl"):
            assert getattr(full, name) == pytest.approx(getattr(diagonal, name), rel=1e-6), name


def test_the_aggregate_posterior_as_the_prior_costs_the_mutual_information_alone() -> None:
    """The mean rate is then the index-code mutual information, and the aggregate KL 0 (Tomczak and Welling, 2018)."""
    mean, logvar = random_posteriors(40, 2)
    prior = Mixture(mean.double(), logvar.double(), torch.full((40,), -math.log(40), dtype=torch.float64))
    found = decompose(DiagonalGaussian(mean, logvar), prior, samples=20_000, generator=generator())
    assert found.aggregate_kl == pytest.approx(0, abs=1e-9)
    assert found.dimensionwise_kl is None
    assert found.total_correlation is not None
    rates = [
        decompose(DiagonalGaussian(mean, logvar), prior, samples=2, generator=generator(seed)).kl for seed in range(400)
    ]
    mean_rate = torch.tensor(rates)
    error = mean_rate.std().item() / 20 + found.standard_errors["mutual_information"]
    assert mean_rate.mean().item() == pytest.approx(found.mutual_information, abs=4 * error)


def test_the_divergence_of_the_moments_is_that_of_the_gaussian_with_them() -> None:
    covariance = torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.5, -0.3], [0.1, -0.3, 0.6]], dtype=torch.float64)
    shift = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    codes = gaussian_means(400, covariance) + shift
    normal = MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    expected = float(kl_divergence(MultivariateNormal(shift, covariance), normal))
    assert moments_kl(codes) == pytest.approx(expected, rel=1e-9)
    narrow = gaussian_means(400, covariance - 0.4 * torch.eye(3)) + shift
    assert moments_kl(narrow, torch.full_like(narrow, 0.4)) == pytest.approx(expected, rel=1e-9)


def test_the_divergence_of_the_moments_needs_more_codes_than_dimensions() -> None:
    codes = torch.randn(5, 5, generator=generator())
    assert moments_kl(codes) is None
    assert moments_kl(torch.zeros(9, 2)) is None  # a collapsed code without a posterior
    assert moments_kl(torch.zeros(9, 2), torch.ones(9, 2)) == 0  # and one whose posteriors are the prior
    line = torch.randn(50, 1, generator=generator())
    expected = 0.5 * float(line.var(correction=0) + line.mean() ** 2 - 1 - line.var(correction=0).log())
    assert moments_kl(line) == pytest.approx(expected, rel=1e-5)
