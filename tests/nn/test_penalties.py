"""Penalties are the papers' quantities, and a critic and what it judges learn apart."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo_vectors import vector
from vaezoo.config.choices import PENALTIES
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.metrics.images import ssim
from vaezoo.nn.penalties import make_penalty
from vaezoo.nn.penalties.adversarial import critic_loss, permuted
from vaezoo.nn.penalties.base import Encoded, Penalty
from vaezoo.nn.penalties.discrepancies import dip, mmd, rbf, sliced_wasserstein, total_correlation
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.gaussian import StandardNormal
from vaezoo.nn.priors.mixtures import Mixture

SMALL = {"widths": [16, 16]}


CRITICS = ("critic_tc", "adversarial")


def seen(code: Tensor, posterior: Posterior | None = None, images: int | None = None) -> Encoded:
    """Codes as a penalty on codes sees them, which does not look at images, with the prior N(0, I)."""
    prior = StandardNormal(code.shape[1], torch.device("cpu"))
    return Encoded(torch.zeros(len(code), 1, 2, 2), code, posterior, prior, images)


def posteriors(size: int, dimensions: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, means and log variances."""
    mean, logvar, noise = torch.randn(3, size, dimensions, dtype=torch.double)
    return mean + torch.exp(0.5 * logvar) * noise, mean, logvar


# statistics of a batch -----------------------------------------------------------------------------------------------


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


def test_dip_has_the_kinds_and_ratios_of_disentanglement_lib() -> None:
    _, mean, logvar = posteriors(6)
    given = seen(mean, DiagonalGaussian(mean, logvar))
    first, second = make_penalty("dip", 3, {"kind": "i"}), make_penalty("dip", 3)
    assert torch.equal(first(given)[0], dip(mean, None, 10.0).expand(6))
    assert torch.equal(second(given)[0], dip(mean, logvar, 1.0).expand(6))
    assert torch.equal(make_penalty("dip", 3, {"diagonal": 0.5})(given)[0], dip(mean, logvar, 0.5).expand(6))
    with pytest.raises(ConfigError, match=r"model\.penalty=dip needs a posterior with independent Gaussian dimensions"):
        second(seen(mean))


def test_codes_are_compared_with_new_draws_of_the_prior_in_each_step() -> None:
    code = torch.randn(7, 3)
    for name, options in (("mmd", {"kernel": "rbf"}), ("sliced_wasserstein", {"projections": 5})):
        torch.manual_seed(3)
        penalty = make_penalty(name, 3, options)
        once, again = penalty(seen(code))[0], penalty(seen(code))[0]
        assert not torch.equal(once, again)
        torch.manual_seed(3)
        draws = torch.randn(7, 3)
        if name == "mmd":
            expected = mmd(code, draws, rbf)
        else:
            directions = torch.randn(5, 3)
            expected = sliced_wasserstein(code, draws, directions / directions.norm(dim=1, keepdim=True))
        torch.testing.assert_close(once, expected.expand(7))


def test_a_penalty_does_not_draw_a_learned_prior_towards_the_codes() -> None:
    code, mean = torch.randn(6, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    for name in ("mmd", "sliced_wasserstein"):
        prior = Mixture(mean, torch.zeros(4, 3), torch.full((4,), -math.log(4)))
        make_penalty(name, 3)(Encoded(torch.zeros(6, 1, 2, 2), code, None, prior))[0].mean().backward()
    assert code.grad is not None
    assert mean.grad is None


def test_ssim_is_of_the_decoded_code_and_of_each_image() -> None:
    x, code = torch.rand(3, 1, 16, 16), torch.rand(3, 256, requires_grad=True)
    penalty = make_penalty("ssim", 256, {"weight": 7})
    given = Encoded(x, code, pixels=code.view(-1, 1, 16, 16))
    found, _ = penalty(given)
    torch.testing.assert_close(found, 1 - ssim(x, code.view(x.shape)))
    found.sum().backward()
    assert code.grad is not None
    assert code.grad.flatten(1).any(1).all()
    assert penalty(given._replace(pixels=x))[0].abs().max() < 1e-6
    assert penalty.formula() == "7 (1 - SSIM)"


def test_the_gradient_of_ssim_is_finite_for_constant_images() -> None:
    code = torch.zeros(2, 256, requires_grad=True)
    given = Encoded(torch.zeros(2, 1, 16, 16), code, pixels=code.view(-1, 1, 16, 16))
    make_penalty("ssim", 256)(given)[0].sum().backward()
    assert code.grad is not None
    assert code.grad.isfinite().all()


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


def test_an_adversarial_critic_has_two_cross_entropies_and_is_fooled_by_a_third() -> None:
    code = torch.randn(5, 3)
    penalty = make_penalty("adversarial", 3, SMALL)
    torch.manual_seed(4)
    fooled, loss = penalty(seen(code))
    torch.manual_seed(4)
    of_draws, of_codes = penalty.critic(torch.randn(5, 3))[:, 0], penalty.critic(code)[:, 0]
    binary, one, zero = nn.functional.binary_cross_entropy_with_logits, torch.ones(5), torch.zeros(5)
    torch.testing.assert_close(fooled, binary(of_codes, one, reduction="none"))
    torch.testing.assert_close(loss, binary(of_draws, one, reduction="none") + binary(of_codes, zero, reduction="none"))
    with torch.no_grad():
        penalty.critic[-1].weight.zero_(), penalty.critic[-1].bias.zero_()
    assert penalty(seen(code))[1].mean().item() == pytest.approx(2 * math.log(2))


@pytest.mark.nightly
def test_codes_that_a_critic_judges_become_draws_of_the_prior() -> None:
    torch.manual_seed(1)
    encoder, penalty = nn.Linear(2, 2), make_penalty("adversarial", 2, {"widths": [64, 64], "lr": 1e-3})
    x = 0.5 * torch.randn(2000, 2) + 0.5
    groups = [{"params": encoder.parameters()}, {"params": penalty.critic.parameters(), **penalty.critic_settings}]
    optimizer, codes = torch.optim.Adam(groups, lr=1e-3, betas=(0.5, 0.9)), []
    for step in range(4000):
        optimizer.zero_grad()
        fooled, critic = penalty(seen(encoder(x[torch.randint(2000, (256,))])))
        (fooled + critic).mean().backward()
        optimizer.step()
        if step >= 2000:  # the two play around the equilibrium
            codes.append(encoder(x).detach())
    torch.testing.assert_close(torch.stack(codes).mean((0, 1)), torch.zeros(2), atol=0.15, rtol=0)
    covariance = torch.stack([torch.cov(code.T) for code in codes]).mean(0)
    torch.testing.assert_close(covariance, torch.eye(2), atol=0.25, rtol=0)


@pytest.mark.parametrize("name", CRITICS)
def test_outside_of_training_there_is_no_loss_of_the_critic_and_nothing_is_drawn(name: str) -> None:
    penalty = make_penalty(name, 3, SMALL).eval()
    before = torch.get_rng_state()
    assert penalty(seen(torch.randn(0, 3)))[1] is None
    assert torch.equal(torch.get_rng_state(), before)


# two players ---------------------------------------------------------------------------------------------------------


def players(name: str) -> tuple[nn.Module, Penalty]:
    torch.manual_seed(3)
    penalty = make_penalty(name, 3, SMALL)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double(), penalty.double()


def losses(encoder: nn.Module, penalty: Penalty, x: Tensor) -> tuple[Tensor, Tensor]:
    """Objective and loss of the critic."""
    code = encoder(x)
    tc, critic = penalty(seen(code))
    assert critic is not None
    return (code.square().sum(1) + penalty.weight * tc).mean(), critic.mean()


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("name", CRITICS)
def test_no_gradient_leaks_from_one_player_to_the_other(name: str) -> None:
    encoder, penalty = players(name)
    x = torch.randn(6, 5, dtype=torch.double)
    losses(encoder, penalty, x)[0].backward()
    assert not gradients(penalty.critic)
    assert len(gradients(encoder)) == 4
    encoder.zero_grad()
    losses(encoder, penalty, x)[1].backward()
    assert not gradients(encoder)
    assert len(gradients(penalty.critic)) == 6


@pytest.mark.parametrize("name", CRITICS)
def test_the_critics_gradient_is_that_of_training_it_alone(name: str) -> None:
    encoder, penalty = players(name)
    x = torch.randn(6, 5, dtype=torch.double)
    torch.manual_seed(4)
    sum(losses(encoder, penalty, x)).backward()
    together = gradients(penalty.critic)
    penalty.zero_grad()
    torch.manual_seed(4)
    _, alone = penalty(seen(encoder(x).detach()))
    alone.mean().backward()
    assert all(map(torch.equal, together, gradients(penalty.critic)))


@pytest.mark.parametrize("name", CRITICS)
def test_one_backward_with_two_groups_is_two_optimisers_to_the_last_bit(name: str) -> None:
    x = torch.randn(5, 6, 5, dtype=torch.double)
    encoder, penalty = players(name)
    groups = [{"params": encoder.parameters()}, {"params": penalty.critic.parameters(), **penalty.critic_settings}]
    optimizer = torch.optim.Adam(groups, lr=1e-2)
    for batch in x:
        optimizer.zero_grad()
        sum(losses(encoder, penalty, batch)).backward()
        optimizer.step()
    other, others = players(name)
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


def test_only_unbiased_statistics_are_for_validation_too() -> None:
    made = {name: make_penalty(name, 3) for name in PENALTIES}
    assert {name for name, one in made.items() if one.is_unbiased_statistic} == {"mmd"}
    assert {name for name, one in made.items() if not one.is_batch_statistic} == {"mmd", "ssim"}
    assert {name for name, one in made.items() if one.needs_prior} == {"mmd", "sliced_wasserstein", "adversarial"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tc", {}, r"model\.penalty must be one of total_correlation, critic_tc, .*, got 'tc'"),
        ("total_correlation", {"weight": -1.0}, r"model\.penalty_options\.weight must be at least 0, got -1"),
        ("total_correlation", {"lr": 1e-3}, r"model\.penalty_options\.lr is not a setting here"),
        ("critic_tc", {"latent_dim": 3}, r"model\.penalty_options\.latent_dim is set by the program"),
        ("critic_tc", {"widths": [64, 0]}, r"model\.penalty_options\.widths must be at least 1, got 0"),
        ("critic_tc", {"lr": 0.0}, r"model\.penalty_options\.lr must be above 0, got 0"),
        ("critic_tc", {"betas": [0.5, 1.0]}, r"model\.penalty_options\.betas must be two numbers from 0 to below 1"),
        ("critic_tc", {"betas": [0.5]}, r"model\.penalty_options\.betas must be two numbers"),
        ("adversarial", {"widths": [64, 0]}, r"model\.penalty_options\.widths must be at least 1, got 0"),
        ("dip", {"kind": "iii"}, r"model\.penalty_options\.kind must be 'i' or 'ii', got 'iii'"),
        ("dip", {"diagonal": -1.0}, r"model\.penalty_options\.diagonal must be at least 0, got -1"),
        ("mmd", {"kernel": "linear"}, r"model\.penalty_options\.kernel must be 'imq' or 'rbf', got 'linear'"),
        ("sliced_wasserstein", {"projections": 0}, r"model\.penalty_options\.projections must be at least 1, got 0"),
    ],
)
def test_mistakes_in_settings_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_penalty(name, 3, options)
