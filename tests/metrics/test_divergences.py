"""Loss terms equal their closed forms, in nats."""

import torch
from torch.distributions import Normal, kl_divergence

from vaezoo.metrics.divergences import gaussian_kl, gaussian_log_prob
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.training.terms import Terms


def test_kl_equals_the_closed_form_of_torch() -> None:
    mean, logvar = torch.randn(7, 3, dtype=torch.double), torch.randn(7, 3, dtype=torch.double)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, logvar), expected)


def test_kl_equals_a_monte_carlo_estimate() -> None:
    posterior = DiagonalGaussian(torch.tensor([[1.0, -0.5]]), torch.tensor([[-1.0, 0.3]]))
    draws = DiagonalGaussian(posterior.mean.expand(200_000, 2), posterior.logvar.expand(200_000, 2)).draw().code[0]
    prior = gaussian_log_prob(draws, torch.zeros(2), torch.zeros(2)).sum(1)
    estimate = (posterior.log_prob(draws) - prior).mean()
    assert abs(estimate - gaussian_kl(*posterior).sum()) < 0.02


def test_kl_is_zero_at_the_prior_and_keeps_its_digits_beside_it() -> None:
    assert gaussian_kl(torch.zeros(1, 4), torch.zeros(1, 4)).abs().sum() == 0
    tiny = torch.tensor([[1e-3]])
    torch.testing.assert_close(gaussian_kl(torch.zeros(1, 1), tiny), tiny.square() / 4, rtol=1e-2, atol=0)


def test_log_prob_of_a_gaussian_equals_torch() -> None:
    value, mean, logvar = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(gaussian_log_prob(value, mean, logvar), Normal(mean, (logvar / 2).exp()).log_prob(value))


def test_elbo_is_at_beta_one_and_needs_a_posterior() -> None:
    terms = Terms(recon=torch.tensor([3.0, 4.0]), kl=torch.tensor([[1.0, 2.0], [0.5, 0.0]]))
    assert terms.has_posterior
    assert terms.elbo.tolist() == [-6.0, -4.5]
    assert not Terms(recon=torch.ones(2), kl=torch.ones(2, 0)).has_posterior


def test_a_sample_has_the_posteriors_moments_and_passes_gradients() -> None:
    mean, logvar = torch.full((50_000, 1), 2.0, requires_grad=True), torch.full((50_000, 1), -1.0, requires_grad=True)
    draws = DiagonalGaussian(mean, logvar).draw(1, torch.Generator().manual_seed(1)).code[0]
    assert abs(draws.mean() - 2) < 0.02
    assert abs(draws.var() - torch.tensor(-1.0).exp()) < 0.02
    draws.sum().backward()
    assert mean.grad is not None
    assert (mean.grad == 1).all()
    assert logvar.grad is not None
