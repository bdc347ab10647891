"""Priors against closed forms, brute force and torch's distributions."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.models import Autoencoder
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors import make_prior
from vaezoo.nn.priors.gaussian import StandardNormal
from vaezoo.nn.priors.mixtures import Mixture

Make = Callable[..., Autoencoder]
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(components: int = 3, dimensions: int = 2) -> Mixture:
    mean, logvar = (torch.randn(components, dimensions, generator=generator(seed)) for seed in (1, 2))
    return Mixture(2 * mean, 0.5 * logvar, torch.randn(components, generator=generator(3)).log_softmax(0))


def test_the_standard_normal_is_that_of_torch() -> None:
    prior, code = StandardNormal(4, CPU), 3 * torch.randn(2, 5, 4)
    torch.testing.assert_close(prior.log_prob(code), torch.distributions.Normal(0, 1).log_prob(code).sum(-1))
    assert torch.equal(prior.sample(7, generator()), torch.randn(7, 4, generator=generator()))
    assert prior.factorises
    assert [moment.tolist() for moment in prior.moments()] == [[0.0] * 4, [1.0] * 4]


def test_a_mixture_has_the_density_of_the_recorded_case() -> None:
    given, wanted = vector("mog_prior")
    prior = Mixture(given["mean"], given["logvar"], given["logits"].log_softmax(0))
    torch.testing.assert_close(
        prior.log_prob(given["z"]), torch.tensor(wanted["log_prob"], dtype=torch.float64), rtol=1e-10, atol=0
    )
    small = Mixture(*(part.float() for part in prior))
    torch.testing.assert_close(small.log_prob(given["z"].float()), torch.tensor(wanted["log_prob"]), rtol=1e-5, atol=0)


def test_a_vamp_prior_is_the_mean_of_posteriors_of_its_pseudo_inputs() -> None:
    given, wanted = vector("vamp_prior")

    def posterior(images: Tensor) -> DiagonalGaussian:
        flat = images.flatten(1)
        return DiagonalGaussian(flat @ given["A"].T + given["a"], torch.tanh(flat @ given["V"].T))

    prior = make_prior("vamp", (1, 2, 3), 2, {"components": 4}).double()
    with torch.no_grad():
        prior.pseudo_inputs.copy_(torch.logit(given["u"]).view(4, 1, 2, 3))
    found = prior(posterior, CPU)
    torch.testing.assert_close(
        found.log_prob(given["z"]), torch.tensor(wanted["log_prob"], dtype=torch.float64), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("shape", [(5,), (3, 7), ()])
def test_a_mixture_is_that_of_torch(shape: tuple[int, ...]) -> None:
    prior, code = mixture(5, 4), 2 * torch.randn(*shape, 4, generator=generator())
    parts = torch.distributions.Independent(torch.distributions.Normal(prior.mean, (0.5 * prior.logvar).exp()), 1)
    weights = torch.distributions.Categorical(logits=prior.log_weight)
    wanted = torch.distributions.MixtureSameFamily(weights, parts)
    torch.testing.assert_close(prior.log_prob(code), wanted.log_prob(code))


def test_a_mixture_integrates_to_one() -> None:
    grid = torch.linspace(-12, 12, 600, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    density = mixture().log_prob(places.view(600, 600, 2)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert density.item() == pytest.approx(1, abs=1e-6)


def test_narrow_components_far_from_zero_keep_their_digits() -> None:
    """The expanded squares nearly cancel there."""
    prior = Mixture(torch.full((2, 3), 50.0), torch.full((2, 3), -12.0), torch.full((2,), -math.log(2)))
    code = prior.mean[:1] + 1e-3
    wanted = torch.distributions.Normal(50.0, math.exp(-6)).log_prob(code).sum(-1)
    torch.testing.assert_close(prior.log_prob(code), wanted, rtol=1e-4, atol=0)


def test_draws_of_a_mixture_follow_its_density() -> None:
    """The mean of -log p over draws is the same as by quadrature."""
    prior = mixture()
    grid = torch.linspace(-12, 12, 600, dtype=torch.float64)
    log_prob = prior.log_prob(torch.cartesian_prod(grid, grid))
    entropy = -(log_prob.exp() * log_prob).sum() * (grid[1] - grid[0]) ** 2
    surprise = -prior.log_prob(prior.sample(50_000, generator()).double())
    assert surprise.mean().item() == pytest.approx(entropy.item(), abs=4 * surprise.std().item() / 50_000**0.5)


def test_the_parameters_of_a_mixture_get_gradients() -> None:
    parts = tuple(part.requires_grad_() for part in mixture())
    Mixture(*parts).log_prob(torch.randn(6, 2)).sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)


def test_one_component_is_a_gaussian() -> None:
    prior = Mixture(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1))
    code = torch.randn(8, 3)
    torch.testing.assert_close(prior.log_prob(code), StandardNormal(3, CPU).log_prob(code))
    assert prior.factorises
    assert not mixture().factorises
    assert mixture().moments() is None


def test_the_rate_under_one_fixed_pseudo_input_is_that_of_two_gaussians(make_model: Make) -> None:
    model = make_model("vamp_vae", "model.prior_options.components=1", "model.latent_dim=3")
    model.start_from(torch.rand(1, 1, 16, 16))
    with torch.no_grad():
        posterior, prior = model.posterior(torch.rand(1, 1, 16, 16)), model.prior()
    assert isinstance(posterior, DiagonalGaussian)
    assert isinstance(prior, Mixture)
    p, q = (
        torch.distributions.Normal(mean, (0.5 * logvar).exp())
        for mean, logvar in ((prior.mean, prior.logvar), posterior)
    )
    wanted = torch.distributions.kl_divergence(q, p).sum().item()
    code, log_q = posterior.draw(40_000, generator())
    rates = log_q - prior.log_prob(code)
    assert rates.mean().item() == pytest.approx(wanted, abs=4 * rates.std().item() / 200)


def test_pseudo_inputs_start_at_training_images_and_only_once(make_model: Make) -> None:
    model: Any = make_model("vamp_vae", "model.prior_options.components=5")
    images = torch.rand(3, 1, 16, 16)
    assert model.wants_images == 5
    model.start_from(images)
    assert model.wants_images == 0
    found = torch.sigmoid(model.prior_model.pseudo_inputs)
    torch.testing.assert_close(found, 0.98 * images[[0, 1, 2, 0, 1]] + 0.01)
    again: Any = make_model("vamp_vae", "model.prior_options.components=5")
    again.load_state_dict(model.state_dict())
    assert again.wants_images == 0


def test_the_encoder_learns_through_both_of_its_roles(make_model: Make) -> None:
    """The gradient of the whole is the sum of those through the posterior and through the prior."""
    model: Any = make_model("vamp_vae", "model.prior_options.components=4")
    x = torch.rand(3, 1, 16, 16)
    gradients = []
    for through in ("both", "posterior", "prior"):
        posterior, prior = model.posterior(x), model.prior()
        torch.manual_seed(0)
        code, log_q = (posterior if through != "prior" else posterior.detached()).draw()
        evaluated = prior if through != "posterior" else Mixture(*(part.detach() for part in prior))
        gradients.append(torch.autograd.grad((log_q - evaluated.log_prob(code)).sum(), model.encoder[-1].weight)[0])
    both, of_posterior, of_prior = gradients
    assert of_prior.abs().max() > 1e-4
    torch.testing.assert_close(both, of_posterior + of_prior)


def test_means_of_a_mixture_start_at_the_codes_of_images(make_model: Make) -> None:
    model: Any = make_model("vae", "model.prior=mixture", "model.prior_options={components: 3}")
    images = torch.rand(3, 1, 16, 16)
    model.start_from(images)
    torch.testing.assert_close(model.prior().mean, model.encode(images))
    assert model.prior().log_weight.exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "cauchy",
            None,
            "model.prior must be one of normal, vamp, mixture, flow, uniform_sphere, conditional, got 'cauchy'",
        ),
        ("vamp", {"component": 3}, "model.prior_options.component is not a setting here; did you mean 'components'?"),
        ("vamp", {"components": 0}, "model.prior_options.components must be at least 1"),
        ("normal", {"components": 2}, "model.prior_options.components is not a setting here"),
        ("conditional", None, "model.prior=conditional needs a label for each image, which this model does not"),
        ("conditional", {"classes": 3}, "model.prior_options.classes is set by the program"),
        ("vamp", {"image_shape": [1, 2, 3]}, "model.prior_options.image_shape is set by the program"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, options: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said.replace("[", "\\[").replace("?", "\\?")):
        make_prior(name, (1, 8, 8), 3, options)
