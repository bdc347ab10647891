"""Posteriors against closed forms and torch's distributions, and against what was computed before they were objects."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.bounds import elbo_terms, importance_weighted_bound
from vaezoo.metrics.divergences import gaussian_kl, gaussian_log_prob
from vaezoo.models import Autoencoder
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.posteriors.base import sampled_kl
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian, FullGaussian
from vaezoo.nn.priors.gaussian import StandardNormal
from vaezoo.nn.priors.mixtures import Mixture

Make = Callable[..., Autoencoder]
CPU = torch.device("cpu")
FAMILIES: dict[str, Callable[[], Any]] = {
    "diagonal": lambda: DiagonalGaussian(torch.randn(4, 3), torch.randn(4, 3)),
    "full": lambda: FullGaussian(torch.randn(4, 3), torch.randn(4, 3, 3).tril(-1) + torch.eye(3)),
}


@pytest.fixture(params=FAMILIES)
def posterior(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]()


def of_torch(posterior: Any) -> torch.distributions.Distribution:
    if isinstance(posterior, FullGaussian):
        return MultivariateNormal(posterior.mean, scale_tril=posterior.factor)
    return torch.distributions.Independent(Normal(posterior.mean, (0.5 * posterior.logvar).exp()), 1)


def test_densities_are_those_of_torch(posterior: Any) -> None:
    code, log_prob = posterior.draw(5)
    assert code.shape == (5, 4, 3)
    torch.testing.assert_close(log_prob, of_torch(posterior).log_prob(code))
    torch.testing.assert_close(posterior.log_prob(code), log_prob)
    elsewhere = torch.randn(4, 3)
    torch.testing.assert_close(posterior.log_prob(elsewhere), of_torch(posterior).log_prob(elsewhere))


def test_draws_have_the_mean_and_covariance(posterior: Any) -> None:
    code = posterior.draw(100_000, torch.Generator().manual_seed(0)).code
    torch.testing.assert_close(code.mean(0), posterior.mean, atol=0.05, rtol=0)
    factor = posterior.factor if isinstance(posterior, FullGaussian) else (0.5 * posterior.logvar).exp().diag_embed()
    for image in range(4):
        wanted = factor[image] @ factor[image].T
        torch.testing.assert_close(torch.cov(code[:, image].T), wanted, atol=0.03 * float(wanted.max()), rtol=0)


def test_the_first_draws_do_not_depend_on_their_number(posterior: Any) -> None:
    one, five = (posterior.draw(count, torch.Generator().manual_seed(3)).code for count in (1, 5))
    assert torch.equal(one[0], five[0])


def test_the_kl_is_that_of_torch_and_of_draws(posterior: Any) -> None:
    prior = StandardNormal(3, CPU)
    exact = posterior.kl(prior, posterior.draw())
    standard = MultivariateNormal(torch.zeros(3), torch.eye(3))
    as_full = MultivariateNormal(posterior.mean, of_torch(posterior).covariance_matrix) if isinstance(
        posterior, FullGaussian
    ) else MultivariateNormal(posterior.mean, posterior.logvar.exp().diag_embed())  # fmt: skip
    torch.testing.assert_close(exact.sum(1), kl_divergence(as_full, standard), rtol=1e-5, atol=1e-5)
    assert exact.shape[1] == {"dimension": 3, "whole": 1}[posterior.kl_by(prior)]
    draw = posterior.draw(50_000)
    error = (draw.log_prob - prior.log_prob(draw.code)).std(0) / 50_000**0.5
    assert ((sampled_kl(prior, draw)[:, 0] - exact.sum(1)).abs() < 4.5 * error).all()


def test_the_kl_from_another_prior_is_estimated_from_the_same_draw(posterior: Any) -> None:
    prior, draw = Mixture(torch.randn(2, 3), torch.zeros(2, 3), torch.full((2,), -math.log(2))), posterior.draw(3)
    assert posterior.kl_by(prior) == "whole"
    torch.testing.assert_close(posterior.kl(prior, draw), sampled_kl(prior, draw))


def test_detached_parameters_get_no_gradients(posterior: Any) -> None:
    live = type(posterior)(*(part.requires_grad_() for part in posterior))
    code = torch.randn(2, 4, 3, requires_grad=True)
    live.detached().log_prob(code).sum().backward()
    assert code.grad is not None
    assert all(part.grad is None for part in live)


def test_the_kl_of_a_full_gaussian_is_that_of_the_recorded_case() -> None:
    given, wanted = vector("full_and_low_rank_gaussian_kl")
    posterior = FullGaussian(given["m"][None], given["R"].tril()[None])
    found = posterior.kl(StandardNormal(3, CPU), posterior.draw())
    torch.testing.assert_close(found[0, 0].item(), wanted["cholesky"], rtol=1e-10, atol=0)


def test_an_untrained_full_gaussian_is_nearly_diagonal_and_of_the_right_size() -> None:
    family = make_posterior_model("full", 3)
    for size in (1, 2, 10):
        posterior = family(torch.randn(4, family.features(size)))
        assert posterior.mean.shape == (4, size)
        off = posterior.factor - posterior.factor.diagonal(dim1=1, dim2=2).diag_embed()
        assert torch.equal(posterior.factor, posterior.factor.tril())
        assert off.abs().max() < 0.05
        assert (posterior.factor.diagonal(dim1=1, dim2=2) > 0).all()


def test_a_full_gaussian_with_a_diagonal_factor_is_the_diagonal_one() -> None:
    diagonal = FAMILIES["diagonal"]()
    full = FullGaussian(diagonal.mean, (0.5 * diagonal.logvar).exp().diag_embed())
    prior, code = StandardNormal(3, CPU), torch.randn(5, 4, 3)
    torch.testing.assert_close(full.log_prob(code), diagonal.log_prob(code))
    torch.testing.assert_close(full.kl(prior, full.draw())[:, 0], diagonal.kl(prior, diagonal.draw()).sum(1))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("laplace", None, "model.posterior must be one of diagonal, full, planar, .*, got 'laplace'"),
        ("full", {"rank": 2}, "model.posterior_options.rank is not a setting here; nothing can be set here"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, options: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said):
        make_posterior_model(name, 3, options)


# as before: the same operations in the same order, written out -------------------------------------------------------


def plain_draw(model: Autoencoder, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
    mean, logvar = model.features(x).chunk(2, dim=1)
    noise = torch.empty_like(mean).normal_(generator=generator)
    return mean, logvar, mean + torch.exp(0.5 * logvar) * noise


@pytest.mark.parametrize("name", ["vae", "beta_vae", "conv_vae"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "learned_gaussian"])
def test_terms_and_gradients_are_to_the_bit_those_written_out(name: str, likelihood: str, make_model: Make) -> None:
    model, x = make_model(name, f"model.likelihood={likelihood}"), torch.rand(7, 1, 16, 16)
    torch.manual_seed(1)
    mean, logvar, code = plain_draw(model, x)
    recon, kl = model.nll(x, code), gaussian_kl(mean, logvar)
    (recon + model.beta * kl.sum(1)).mean().backward()
    wanted = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    torch.manual_seed(1)
    terms = model.loss_terms(x)
    model.objective(terms, model.weights()).mean().backward()
    assert torch.equal(terms.recon, recon)
    assert torch.equal(terms.kl, kl)
    assert torch.equal(terms.rate, kl.sum(1))
    found = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and torch.equal(grad, before) for grad, before in zip(found, wanted, strict=True))


@torch.no_grad()
def test_bounds_and_samples_are_to_the_bit_those_written_out(make_model: Make) -> None:
    model, x = make_model("vae").eval(), torch.rand(9, 1, 16, 16)
    state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(int(__import__("numpy").random.SeedSequence((5, 0)).generate_state(1)[0]))
    mean, logvar, code = plain_draw(model, x, generator)
    recon, kl = elbo_terms(model, x, seed=5)
    assert torch.equal(recon, -model.log_likelihood(x, code).double())
    assert torch.equal(kl, gaussian_kl(mean, logvar).double())
    bound, _ = importance_weighted_bound(model, x, 1, seed=5)
    log_prior = gaussian_log_prob(code, torch.zeros_like(code), torch.zeros_like(code)).sum(1)
    log_q = gaussian_log_prob(code, mean, logvar).sum(-1)
    wanted = model.log_likelihood(x, code).double() + log_prior.double() - log_q.double()
    torch.testing.assert_close(bound, wanted, rtol=1e-15, atol=0)
    images = model.sample(4, torch.Generator().manual_seed(2))
    noise = torch.randn(4, model.latent_dim, generator=torch.Generator().manual_seed(2))
    assert images is not None
    assert torch.equal(images, model.decode(noise))
    assert torch.equal(torch.random.get_rng_state(), state)
