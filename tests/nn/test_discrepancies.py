"""Discrepancies of codes are the papers' quantities, and those without bias have none at any batch size."""

import math
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor

from tests.nn.test_penalties import posteriors
from tests.zoo_vectors import vector
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.nn.penalties.discrepancies import (
    SCALES,
    _stratified,
    dip,
    imq,
    mmd,
    rbf,
    sliced_wasserstein,
    total_correlation,
)

# total correlation ---------------------------------------------------------------------------------------------------


def test_total_correlation_has_the_stratified_weights() -> None:
    given, value = vector("tc_minibatch_estimators")
    estimate = total_correlation(given["z"], given["mean"], given["logvar"], given["N"])
    assert estimate.mean().item() == pytest.approx(value["stratified"]["tc"], rel=1e-10)
    everything = total_correlation(given["z"], given["mean"], given["logvar"], len(given["z"]))
    assert everything.mean().item() == pytest.approx(value["naive"]["tc"], rel=1e-10)


def test_stratified_weights_give_the_density_on_average_over_batches() -> None:
    given, value = vector("stratified_weights_are_unbiased")
    log_q = gaussian_log_prob(given["z"], given["mean"], given["logvar"]).sum(1)
    batches = [(2, *others) for others in combinations([0, 1, 3, 4, 5], 2)]
    weights = _stratified(3, 6, log_q)
    found = [(log_q[list(batch)] + weights[0]).exp().sum().item() for batch in batches]
    assert sum(found) / len(found) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize(("size", "images"), [(1, 1), (1, 9), (4, 4), (4, 1000)])
def test_the_weights_of_the_posteriors_add_up_to_one(size: int, images: int) -> None:
    """Posteriors that are all the same are the aggregate, whose dimensions are independent."""
    code = torch.randn(size, 3, dtype=torch.double)
    same = torch.zeros_like(code)
    torch.testing.assert_close(total_correlation(code, same, same, images), torch.zeros(size, dtype=torch.double))


def test_one_image_has_no_total_correlation_and_a_finite_gradient() -> None:
    given = [tensor.requires_grad_() for tensor in posteriors(1)]
    tc = total_correlation(*given, images=100)
    tc.sum().backward()
    assert tc.item() == 0
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in given)


def test_the_gradient_reaches_codes_means_and_variances() -> None:
    given = [tensor.requires_grad_() for tensor in posteriors(3)]
    assert torch.autograd.gradcheck(lambda *parts: total_correlation(*parts, images=50), given)


def test_a_training_set_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least the 4 of the batch, got 3"):
        total_correlation(*posteriors(4), images=3)


# covariance ----------------------------------------------------------------------------------------------------------


def test_dip_is_the_papers_sum_with_the_ratio_of_its_weights() -> None:
    given, value = vector("dip_penalties")
    assert 10 * dip(given["mean"], diagonal=10).item() == pytest.approx(value["dip_i"], rel=1e-10)
    assert 10 * dip(given["mean"], given["logvar"]).item() == pytest.approx(value["dip_ii"], rel=1e-10)


def test_codes_with_the_covariance_of_the_prior_have_no_dip() -> None:
    mean = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert dip(mean).item() == 0
    half = (0.75 * torch.ones(4, 2)).log()
    assert dip(0.5 * mean, half).item() == pytest.approx(0, abs=1e-12)
    assert dip(0.5 * mean, diagonal=3).item() == pytest.approx(3 * 2 * 0.75**2)


def test_dip_of_one_image_is_that_of_no_covariance() -> None:
    mean = torch.randn(1, 3, requires_grad=True)
    value = dip(mean)
    value.backward()
    assert value.item() == 3
    assert mean.grad is not None
    assert not mean.grad.any()


@pytest.mark.parametrize("size", [16, 64])
def test_the_bias_of_dip_is_that_of_squared_covariances(size: int) -> None:
    """For N(0, I), C_ij has variance (B - 1) / B^2 off the diagonal, and C_ii - 1 a square of (2 B - 1) / B^2."""
    found = torch.stack([dip(torch.randn(size, 4, dtype=torch.double), diagonal=0.5) for _ in range(2000)])
    expected = (12 * (size - 1) + 0.5 * 4 * (2 * size - 1)) / size**2
    assert found.mean().item() == pytest.approx(expected, abs=4 * found.std().item() / 2000**0.5)


# maximum mean discrepancy --------------------------------------------------------------------------------------------


def test_mmd_is_the_known_u_statistic() -> None:
    given, value = vector("mmd_u_statistic")
    assert tuple(given["scales"]) == SCALES
    assert mmd(given["z"], given["p"]).item() == pytest.approx(value["imq"], rel=1e-10)
    assert mmd(given["z"][:4], given["p"][:4]).item() == pytest.approx(value["imq_of_first_4"], rel=1e-10)
    single = mmd(given["z"].float(), given["p"].float())
    assert single.item() == pytest.approx(value["imq"], rel=1e-5)


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize(("kernel", "name"), [(imq, "imq_seven_scales"), (rbf, "rbf")])
def test_mmd_has_the_mean_of_the_populations_at_every_batch_size(
    kernel: Callable[[Tensor, int], Tensor], name: str, size: int
) -> None:
    given, value = vector("mmd_of_gaussians")
    assert given["h2"] == 3  # exp(-r^2 / (2 D))
    found = []
    for _ in range(500):
        code, draws = torch.randn(2, size, 3, dtype=torch.double)
        found.append(mmd(given["mu"] + given["s2"] ** 0.5 * code, draws, kernel))
    values = torch.stack(found)
    assert values.mean().item() == pytest.approx(value[name], abs=4 * values.std().item() / 500**0.5)


def test_mmd_of_draws_of_the_prior_is_zero_on_average_and_often_negative() -> None:
    values = torch.stack([mmd(*torch.randn(2, 16, 3, dtype=torch.double)) for _ in range(500)])
    assert values.mean().item() == pytest.approx(0, abs=4 * values.std().item() / 500**0.5)
    assert 0.2 < (values < 0).double().mean().item() < 0.8


def test_a_single_code_has_no_mmd_and_a_gradient_of_zero() -> None:
    code = torch.randn(1, 3, requires_grad=True)
    value = mmd(code, torch.randn(1, 3))
    value.backward()
    assert value.item() == 0
    assert code.grad is not None
    assert not code.grad.any()


@pytest.mark.parametrize("kernel", [imq, rbf])
def test_the_gradient_of_mmd_is_finite_where_codes_are_equal(kernel: Callable[[Tensor, int], Tensor]) -> None:
    code = torch.zeros(5, 3, dtype=torch.double, requires_grad=True)
    draws = torch.randn(5, 3, dtype=torch.double)
    mmd(code, draws, kernel).backward()
    assert code.grad is not None
    assert code.grad.isfinite().all()
    assert torch.autograd.gradcheck(lambda each: mmd(each, draws, kernel), code)


# sliced Wasserstein --------------------------------------------------------------------------------------------------


def test_sliced_wasserstein_is_the_known_distance() -> None:
    given, value = vector("sliced_wasserstein")
    found = sliced_wasserstein(given["z"], given["p"], given["theta"])
    assert found.item() == pytest.approx(value["empirical"], rel=1e-10)
    angle = torch.linspace(0, math.pi, 101, dtype=torch.double)[:-1]
    directions = torch.stack([angle.cos(), angle.sin()], 1)
    one, other = torch.randn(2, 100_000, 2, dtype=torch.double)
    many = sliced_wasserstein(given["mu"] + given["s"] * one, other, directions)
    assert many.item() == pytest.approx(value["population"], abs=0.01)


def test_sliced_wasserstein_does_not_depend_on_the_order_of_codes() -> None:
    code, draws, directions = torch.randn(3, 9, 4)
    shuffled = code[torch.randperm(9)]
    torch.testing.assert_close(
        sliced_wasserstein(shuffled, draws, directions), sliced_wasserstein(code, draws, directions)
    )
    assert sliced_wasserstein(code, code, directions).item() == 0
    assert sliced_wasserstein(code[:1], draws[:1], directions).isfinite()
