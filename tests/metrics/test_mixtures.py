"""Mixtures over codes equal torch's, recover known ones, and project codes of many dimensions on principal axes."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaezoo.metrics import mixtures
from vaezoo.metrics.mixtures import FULL_DIMENSIONS, MOST_AXES, Mixture, fit_mixture, no_mixture


def test_a_mixture_has_the_moments_of_its_codes() -> None:
    codes = torch.randn(4000, 2) @ torch.tensor([[3.0, 0], [1, 0.01]]) + torch.tensor([5.0, -2])
    codes[::2] += torch.tensor([30.0, 0])
    draws = fit_mixture(codes, components=2).sample(50_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(draws.mean(0), codes.mean(0), rtol=0.02, atol=0.02)
    torch.testing.assert_close(draws.T.cov(), codes.T.cov(), rtol=0.03, atol=0.01)
    assert ((draws[:, 0] > 15) & (draws[:, 0] < 25)).float().mean() < 0.02  # two modes, with nothing between them


def test_a_mixture_and_its_draws_depend_on_the_seeds_alone() -> None:
    codes = torch.randn(200, 3)
    first = fit_mixture(codes, components=3, seed=1).sample(20, torch.Generator().manual_seed(2))
    torch.manual_seed(99)
    second = fit_mixture(codes, components=3, seed=1).sample(20, torch.Generator().manual_seed(2))
    assert torch.equal(first, second)
    assert first.dtype == torch.float32


@pytest.mark.parametrize(("shape", "scale"), [((4, 6), 1.0), ((30, 2), 0.0), ((30, 1), 1.0)])
def test_few_constant_or_narrow_codes_make_a_mixture_too(shape: tuple[int, int], scale: float) -> None:
    codes = scale * torch.randn(shape)
    draws = fit_mixture(codes).sample(100)
    assert draws.shape == (100, shape[1])
    assert draws.abs().max() <= codes.abs().max() + 5 * codes.std()


def test_the_scale_of_codes_does_not_matter_to_a_mixture() -> None:
    codes = torch.randn(300, 3)
    small = fit_mixture(codes * 1e-4, components=2).sample(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        small * 1e4, fit_mixture(codes, components=2).sample(50, torch.Generator().manual_seed(0))
    )


def test_one_code_is_too_few_for_a_mixture() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fit_mixture(torch.zeros(1, 2))


def known_mixture() -> Mixture:
    """Three Gaussians in two dimensions, which overlap."""
    factors = torch.tensor([[[1.0, 0], [0.5, 0.6]], [[0.4, 0], [0, 0.4]], [[0.8, 0], [-0.7, 1.0]]], dtype=torch.double)
    means = torch.tensor([[0.0, 0], [3, 1], [-2, 3]], dtype=torch.double)
    return Mixture(torch.tensor([0.5, 0.2, 0.3], dtype=torch.double), means, factors)


def test_the_density_of_a_mixture_is_that_of_torch() -> None:
    mixture, codes = known_mixture(), torch.randn(50, 2, dtype=torch.double)
    parts = torch.distributions.MultivariateNormal(mixture.means, scale_tril=mixture.factors)
    same = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(mixture.weights), parts)
    torch.testing.assert_close(mixture.log_prob(codes), same.log_prob(codes))


def test_the_density_of_a_known_mixture_is_recovered() -> None:
    known = known_mixture()
    codes, others = known.sample(10_000, torch.Generator().manual_seed(0)).split(9_000)
    found = fit_mixture(codes, components=3)
    assert (found.log_prob(others) - known.log_prob(others)).mean().item() == pytest.approx(0, abs=0.05)
    assert (found.log_prob(codes) - known.log_prob(codes)).mean().item() == pytest.approx(0, abs=0.05)


def test_one_gaussian_has_the_mean_and_the_covariance_of_the_codes() -> None:
    codes = torch.randn(300, 3, dtype=torch.double) @ torch.randn(3, 3, dtype=torch.double) + 5
    _, means, factors, _ = fit_mixture(codes, components=1)
    torch.testing.assert_close(means[0], codes.mean(0), rtol=1e-10, atol=0)
    expected = torch.cov(codes.T, correction=0) + 1e-6 * codes.var(0).diag()  # the regularisation
    torch.testing.assert_close(factors[0] @ factors[0].T, expected, rtol=1e-8, atol=1e-10)


def test_a_mixture_is_the_same_after_it_was_stored() -> None:
    mixture = fit_mixture(torch.randn(100, 3), components=4)
    again = Mixture.from_plain(json.loads(json.dumps(mixture.plain())))
    assert all(map(torch.equal, again[:3], mixture[:3]))
    assert again.subspace is mixture.subspace is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"weights": "abc"},
        {"weights": [-1.0, 1.0]},
        {"means": [[0.0], [1.0, 2.0]]},
        {"means": [[0.0], [1.0]]},
        {"factors": [[[1.0]]]},
        {"means": [[math.nan, 0.0], [0.0, 0.0]]},
    ],
)
def test_what_is_no_mixture_is_refused(change: dict[str, Any]) -> None:
    plain = fit_mixture(torch.randn(100, 2), components=2).plain()
    with pytest.raises(ValueError, match="weights"):
        Mixture.from_plain(plain | change)


# many dimensions -----------------------------------------------------------------------------------------------------


def many(count: int, spreads: list[float], *, dimensions: int = 300, noise: float = 0.0) -> Tensor:
    """Codes with these standard deviations on orthogonal axes, around another point than 0, and noise everywhere."""
    axes = torch.linalg.qr(torch.randn(dimensions, len(spreads)))[0]
    scores = torch.randn(count, len(spreads)) * torch.tensor(spreads)
    return 3 + scores @ axes.T + noise * torch.randn(count, dimensions)


def test_codes_of_many_dimensions_are_projected_on_axes_with_their_variance() -> None:
    assert fit_mixture(torch.randn(300, FULL_DIMENSIONS), components=1).subspace is None
    exact = fit_mixture(many(400, [5.0, 2.0, 1.0]), components=2)
    assert (exact.axes, exact.dimensions, exact.means.shape) == (3, 300, (2, 3))
    assert fit_mixture(many(400, [30.0, 1.0, 1.0]), components=2).axes == 1  # holds 99%
    assert fit_mixture(torch.randn(400, 300), components=2).axes == 400 // 20
    assert fit_mixture(torch.randn(4000, 300), components=1).axes == MOST_AXES


def test_the_density_outside_of_the_axes_is_that_of_one_gaussian() -> None:
    """One component: N(mean, U S U' + noise^2 (I - U U')), as torch has it in all dimensions."""
    codes = many(600, [4.0, 3.0, 2.0], noise=0.1)
    mixture = fit_mixture(codes, components=1)
    subspace = mixture.subspace
    assert subspace is not None
    inside = subspace.axes.T @ (mixture.factors[0] @ mixture.factors[0].T) @ subspace.axes
    outside = torch.eye(300, dtype=torch.double) - subspace.axes.T @ subspace.axes
    mean = subspace.center + mixture.means[0] @ subspace.axes
    same = torch.distributions.MultivariateNormal(mean, inside + subspace.noise**2 * outside)
    torch.testing.assert_close(mixture.log_prob(codes), same.log_prob(codes.double()))
    assert subspace.noise.item() == pytest.approx(0.1, rel=0.1)


def test_draws_have_the_moments_of_codes_of_many_dimensions() -> None:
    codes = many(2000, [4.0, 3.0, 2.0], noise=0.1)
    draws = fit_mixture(codes, components=3).sample(20_000, torch.Generator().manual_seed(0))
    assert (draws.shape, draws.dtype) == ((20_000, 300), torch.float32)
    torch.testing.assert_close(draws.mean(0), codes.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(draws.T.cov(), codes.T.cov(), atol=0.1, rtol=0)
    assert draws.var(0).sum().item() == pytest.approx(codes.var(0).sum().item(), rel=0.03)


def test_new_codes_are_about_as_likely_as_those_of_the_fit() -> None:
    codes = many(4000, [4.0, 3.0, 2.0], noise=0.01)
    mixture = fit_mixture(codes[:3000], components=3)
    assert mixture.axes == 3
    old, new = mixture.log_prob(codes[:3000]).mean(), mixture.log_prob(codes[3000:]).mean()
    assert (old - new).item() == pytest.approx(0, abs=1.5)
    assert new > fit_mixture(codes[:3000, torch.randperm(300)], components=3).log_prob(codes[3000:]).mean() + 100


def test_constant_codes_of_many_dimensions_make_a_mixture_too() -> None:
    torch.testing.assert_close(fit_mixture(torch.full((30, 300), 2.0)).sample(5), torch.full((5, 300), 2.0))


def test_a_mixture_with_axes_is_the_same_after_it_was_stored() -> None:
    mixture = fit_mixture(many(100, [2.0, 1.0]), components=2)
    again = Mixture.from_plain(json.loads(json.dumps(mixture.plain())))
    assert all(map(torch.equal, again[:3], mixture[:3]))
    assert again.subspace is not None
    assert mixture.subspace is not None
    assert all(map(torch.equal, again.subspace, mixture.subspace))


@pytest.mark.parametrize("change", [{"axes": [[1.0, 0.0]]}, {"noise": -1.0}, {"center": [math.nan] * 300}, {"axes": 1}])
def test_what_is_no_subspace_is_refused(change: dict[str, Any]) -> None:
    plain = fit_mixture(many(100, [2.0, 1.0]), components=2).plain()
    with pytest.raises(ValueError, match="center, axes and noise"):
        Mixture.from_plain(plain | {"subspace": plain["subspace"] | change})
    with pytest.raises(ValueError, match="center, axes and noise"):
        Mixture.from_plain(plain | {"subspace": 3})


def test_codes_beyond_the_largest_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "MOST_DIMENSIONS", 400)
    assert no_mixture(torch.empty(0, 400)) == ""
    assert "at most 400 dimensions, and these have 1,000" in no_mixture(torch.empty(0, 1000))


def test_groups_along_a_strong_axis_are_found_among_many_weak_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(400, 3, generator=generator))[0].T
    leading = torch.randn(2000, 3, generator=generator) * torch.tensor([1.0, 4, 3])
    leading[::2, 0] += 40
    codes = leading @ axes + torch.randn(2000, 400, generator=generator) * torch.linspace(0.1, 0.3, 400)
    mixture = fit_mixture(codes, components=2)
    assert mixture.subspace is not None
    draws = mixture.sample(4000, torch.Generator().manual_seed(1)).double()
    along = mixture.subspace.project(draws)[0][:, 0]
    assert (along.abs() < 10).double().mean() < 0.01  # the groups are at -20 and 20
