"""Penalties are the papers' quantities, and a critic and what it judges learn apart."""

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.nn.penalties import (
    CriticTC,
    Encoded,
    _stratified,
    critic_loss,
    make_penalty,
    permuted,
    total_correlation,
)
from vaezoo.nn.posteriors import DiagonalGaussian, Posterior

SMALL = {"widths": [16, 16]}


def seen(code: Tensor, posterior: Posterior | None = None, images: int | None = None) -> Encoded:
    """Codes as a penalty on codes sees them, which does not look at images."""
    return Encoded(torch.zeros(len(code), 1, 2, 2), code, posterior, images=images)


def posteriors(size: int, dimensions: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, means and log variances."""
    mean, logvar, noise = torch.randn(3, size, dimensions, dtype=torch.double)
    return mean + torch.exp(0.5 * logvar) * noise, mean, logvar


# total correlation of a batch ----------------------------------------------------------------------------------------


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


def test_the_penalty_is_the_mean_of_the_batch_for_each_image() -> None:
    code, mean, logvar = posteriors(6)
    penalty = make_penalty("total_correlation", 3)
    found, critic = penalty(seen(code, DiagonalGaussian(mean, logvar), images=100))
    torch.testing.assert_close(found, total_correlation(code, mean, logvar, 100).mean().expand(6))
    assert critic is None
    alone, _ = penalty(seen(code, DiagonalGaussian(mean, logvar)))
    torch.testing.assert_close(alone, total_correlation(code, mean, logvar, 6).mean().expand(6))
    with pytest.raises(ConfigError, match="needs a posterior with independent Gaussian dimensions"):
        penalty(seen(code, images=100))


# total correlation by a critic ---------------------------------------------------------------------------------------


def correlated(covariance: Any, draws: int) -> tuple[Tensor, Tensor]:
    """Draws of N(0, S) and of the product of its marginals, each (draws, 2)."""
    factor = torch.linalg.cholesky(covariance)
    return (
        torch.randn(draws, 2, dtype=torch.double) @ factor.T,
        torch.randn(draws, 2, dtype=torch.double) * covariance.diagonal().sqrt(),
    )


def optimal_logits(code: Tensor, covariance: Tensor) -> Tensor:
    """log q(z) and the sum of log q(z_d): (B, 2)."""
    zero = torch.zeros(2, dtype=torch.double)
    joint = torch.distributions.MultivariateNormal(zero, covariance).log_prob(code)
    return torch.stack([joint, gaussian_log_prob(code, zero, covariance.diagonal().log()).sum(1)], 1)


def test_the_critics_loss_at_its_optimum_is_the_known_one() -> None:
    given, value = vector("factor_vae_optimal_discriminator")
    logits = optimal_logits(given["z"], given["S"])
    expected = torch.tensor(value["logit_difference"], dtype=torch.double)
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], expected)
    code, product = correlated(given["S"], 200_000)
    joint = optimal_logits(code, given["S"])
    loss = critic_loss(joint, optimal_logits(product, given["S"]))
    assert loss.mean().item() == pytest.approx(
        value["discriminator_loss"], abs=4 * loss.std().item() / len(loss) ** 0.5
    )
    tc = joint[:, 0] - joint[:, 1]
    assert tc.mean().item() == pytest.approx(value["tc"], abs=4 * tc.std().item() / len(tc) ** 0.5)
    nothing = torch.zeros(4, 2, dtype=torch.double)
    assert critic_loss(nothing, nothing).mean().item() == pytest.approx(value["loss_if_independent"])


def test_the_critics_loss_is_half_of_two_cross_entropies() -> None:
    joint, product = torch.randn(2, 5, 2)
    first, second = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    halves = [nn.functional.cross_entropy(*pair, reduction="none") for pair in ((joint, first), (product, second))]
    torch.testing.assert_close(critic_loss(joint, product), 0.5 * sum(halves))


@pytest.mark.nightly
def test_a_trained_critic_finds_the_total_correlation() -> None:
    given, value = vector("factor_vae_optimal_discriminator")
    penalty = make_penalty("critic_tc", 2, {"widths": [64, 64], "lr": 1e-3})
    optimizer = torch.optim.Adam(penalty.critic.parameters(), **penalty.critic_settings)
    for _ in range(3000):
        optimizer.zero_grad()
        penalty(seen(correlated(given["S"], 512)[0].float()))[1].mean().backward()
        optimizer.step()
    tc, loss = penalty(seen(correlated(given["S"], 50_000)[0].float()))
    assert tc.mean().item() == pytest.approx(value["tc"], abs=0.05)
    assert loss.mean().item() == pytest.approx(value["discriminator_loss"], abs=0.01)


def test_each_dimension_is_permuted_over_images_on_its_own() -> None:
    column = torch.randn(4000, 1)
    code = column.expand(-1, 3).clone().requires_grad_()
    found = permuted(code)
    assert torch.equal(found.sort(0).values, code.detach().sort(0).values)
    assert torch.corrcoef(found.T).triu(1).abs().max() < 0.06  # 4 standard errors
    kept = (found[:, :1] == found).all(1)
    assert kept.sum() <= 2
    assert not found.requires_grad


def test_the_critics_loss_of_one_image_is_finite() -> None:
    penalty = make_penalty("critic_tc", 3, SMALL)
    tc, loss = penalty(seen(torch.randn(1, 3)))
    assert loss.item() >= math.log(2) - 1e-6  # the same code as both classes
    assert tc.isfinite().all()


def test_outside_of_training_there_is_no_loss_of_the_critic_and_nothing_is_drawn() -> None:
    penalty = make_penalty("critic_tc", 3, SMALL).eval()
    before = torch.get_rng_state()
    assert penalty(seen(torch.randn(0, 3)))[1] is None
    assert torch.equal(torch.get_rng_state(), before)


# two players ---------------------------------------------------------------------------------------------------------


def players() -> tuple[nn.Module, CriticTC]:
    torch.manual_seed(3)
    penalty = make_penalty("critic_tc", 3, SMALL)
    assert isinstance(penalty, CriticTC)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double(), penalty.double()


def losses(encoder: nn.Module, penalty: CriticTC, x: Tensor) -> tuple[Tensor, Tensor]:
    """Objective and loss of the critic."""
    code = encoder(x)
    tc, critic = penalty(seen(code))
    assert critic is not None
    return (code.square().sum(1) + penalty.weight * tc).mean(), critic.mean()


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def test_no_gradient_leaks_from_one_player_to_the_other() -> None:
    encoder, penalty = players()
    x = torch.randn(6, 5, dtype=torch.double)
    losses(encoder, penalty, x)[0].backward()
    assert not gradients(penalty.critic)
    assert len(gradients(encoder)) == 4
    encoder.zero_grad()
    losses(encoder, penalty, x)[1].backward()
    assert not gradients(encoder)
    assert len(gradients(penalty.critic)) == 6


def test_the_critics_gradient_is_that_of_training_it_alone() -> None:
    encoder, penalty = players()
    x = torch.randn(6, 5, dtype=torch.double)
    torch.manual_seed(4)
    sum(losses(encoder, penalty, x)).backward()
    together = gradients(penalty.critic)
    penalty.zero_grad()
    torch.manual_seed(4)
    _, alone = penalty(seen(encoder(x).detach()))
    alone.mean().backward()
    assert all(map(torch.equal, together, gradients(penalty.critic)))


def test_one_backward_with_two_groups_is_two_optimisers_to_the_last_bit() -> None:
    x = torch.randn(5, 6, 5, dtype=torch.double)
    encoder, penalty = players()
    groups = [{"params": encoder.parameters()}, {"params": penalty.critic.parameters(), **penalty.critic_settings}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    for batch in x:
        optimizer.zero_grad()
        sum(losses(encoder, penalty, batch)).backward()
        optimizer.step()
    other, others = players()
    two = [
        torch.optim.Adam(other.parameters(), lr=1e-2),
        torch.optim.Adam(others.critic.parameters(), **others.critic_settings),
    ]
    for batch in x:
        state = torch.get_rng_state()
        for number, optimizer in enumerate(two):
            torch.set_rng_state(state)
            optimizer.zero_grad()
            losses(other, others, batch)[number].backward()
        for optimizer in two:
            optimizer.step()
    assert all(map(torch.equal, encoder.parameters(), other.parameters()))
    assert all(map(torch.equal, penalty.parameters(), others.parameters()))


# names and options ---------------------------------------------------------------------------------------------------


def test_a_penalty_says_what_it_is() -> None:
    tc = make_penalty("total_correlation", 4)
    assert (tc.formula(), tc.needs_moments, tc.is_batch_statistic, tc.critic_settings) == ("5 tc", True, True, {})
    critic = make_penalty("critic_tc", 10, {"weight": 10})
    assert (critic.formula(), critic.needs_moments) == ("10 tc", False)
    assert critic.critic_settings == {"lr": 1e-4, "betas": [0.5, 0.9]}
    assert {name.split(".")[0] for name, _ in critic.named_parameters()} == {"critic"}
    assert not list(tc.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tc", {}, r"model\.penalty must be one of total_correlation, critic_tc, got 'tc'"),
        ("total_correlation", {"weight": -1.0}, r"model\.penalty_options\.weight must be at least 0, got -1"),
        ("total_correlation", {"lr": 1e-3}, r"model\.penalty_options\.lr is not a setting here"),
        ("critic_tc", {"latent_dim": 3}, r"model\.penalty_options\.latent_dim is set by the program"),
        ("critic_tc", {"widths": [64, 0]}, r"model\.penalty_options\.widths must be at least 1, got 0"),
        ("critic_tc", {"lr": 0.0}, r"model\.penalty_options\.lr must be above 0, got 0"),
        ("critic_tc", {"betas": [0.5, 1.0]}, r"model\.penalty_options\.betas must be two numbers from 0 to below 1"),
        ("critic_tc", {"betas": [0.5]}, r"model\.penalty_options\.betas must be two numbers"),
    ],
)
def test_mistakes_in_settings_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_penalty(name, 3, options)
