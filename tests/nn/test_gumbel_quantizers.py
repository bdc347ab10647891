"""Drawn codes: the exact KL, draws whose frequencies are the probabilities, and the relaxation's limits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import close
from vaezoo.config.errors import ConfigError
from vaezoo.models import VQVAE
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.gumbel import GumbelQuantizer, positions_of


def logits() -> Tensor:
    """(2, 5, 2, 2), as in the recipe of the known value."""
    return torch.tensor(np.random.RandomState(17).randn(2, 5, 2, 2)).float()


def test_the_kl_is_the_known_one_in_training_and_evaluation(known: dict[str, Tensor]) -> None:
    made = GumbelQuantizer(3, size=5)
    for each in (made, made.eval()):
        posterior, prior = each.posterior(logits()), each.prior(4)
        kl = posterior.kl(prior, posterior.draw())
        assert kl.shape == (2, 4)
        assert posterior.kl_by(prior) == "group"
        close(kl.sum(1), known["gumbel_kl"])


def test_without_information_the_kl_is_zero_and_with_certainty_the_uniform_rate() -> None:
    made = GumbelQuantizer(3, size=5).eval()
    for scale, wanted in ((0.0, 0.0), (1e4, 4 * math.log(5))):
        posterior = made.posterior(scale * logits())
        close(posterior.kl(made.prior(4), posterior.draw()).sum(1), torch.full((2,), wanted))


def test_draws_of_evaluation_are_codes_with_their_probabilities() -> None:
    made = GumbelQuantizer(3, size=5).eval()
    posterior = made.posterior(logits())
    draw = posterior.draw(20_000, torch.Generator().manual_seed(0))
    indices = torch.cdist(positions_of(draw.code, 3), made.codebook).argmin(-1)
    assert torch.equal(made.codebook[indices], positions_of(draw.code, 3))
    shares = torch.nn.functional.one_hot(indices, 5).float().mean(0)
    probabilities = logits().softmax(1).flatten(2).mT
    assert (shares - probabilities).abs().max() < 4 * 0.5 / math.sqrt(20_000)
    close(draw.log_prob[:50], posterior.log_prob(draw.code)[:50])
    log_probs = probabilities.log().expand(20_000, -1, -1, -1)
    close(draw.log_prob[:50], log_probs.gather(-1, indices[..., None]).sum((-2, -1))[:50])


def test_the_most_probable_codes_are_the_code_without_noise() -> None:
    made, z = GumbelQuantizer(3, size=5), logits()
    found = made(z)
    assert torch.equal(found.indices[:, 0], z.argmax(1))
    assert torch.equal(found.code.flatten(1), made.posterior(z).mean)
    assert torch.equal(found.code, made.codes(found.indices))
    assert torch.equal(made.project(found.code + 1e-3), found.code)
    assert torch.equal(made.project(made.path(z)), found.code)


@pytest.mark.parametrize("straight_through", [False, True])
def test_relaxed_draws_become_codes_as_the_temperature_falls(straight_through: bool) -> None:
    made = GumbelQuantizer(3, size=5, straight_through=straight_through)
    distances = []
    for temperature in (1.0, 0.1, 1e-4):
        made.temperature.fill_(temperature)
        torch.manual_seed(0)
        code = positions_of(made.posterior(logits()).draw().code, 3)
        distances.append(torch.cdist(code, made.codebook).min(-1).values.max().item())
    assert distances[-1] < 1e-3
    assert distances[0] < 1e-3 if straight_through else distances[0] > 0.1


def test_relaxed_draws_have_gradients_and_draws_of_evaluation_none() -> None:
    z = logits().requires_grad_()
    for made, relaxed in ((GumbelQuantizer(3, size=5), True), (GumbelQuantizer(3, size=5).eval(), False)):
        code = made.posterior(z).draw().code.sum()
        (found,) = torch.autograd.grad(code, z, allow_unused=True)
        assert (found is not None and bool(found.any())) == relaxed


def test_the_prior_draws_every_code_equally_often() -> None:
    prior = GumbelQuantizer(3, size=5).prior(4)
    with torch.no_grad():
        codes = positions_of(prior.sample(10_000, torch.Generator().manual_seed(0)), 3)
    shares = torch.bincount(torch.cdist(codes, prior.codebook).argmin(-1).flatten()) / 40_000
    assert (shares - 0.2).abs().max() < 4 * 0.4 / math.sqrt(40_000)
    close(prior.log_prob(torch.zeros(2, 12)), torch.full((2,), -4 * math.log(5)))


def test_temperature_and_weight_follow_the_optimiser_step() -> None:
    made = GumbelQuantizer(3, size=5, temperature_steps=8, least_temperature=0.0625, warmup_steps=4)
    assert made.weights_at(0) == {"kl_weight": 0.0, "temperature": 1.0}
    assert made.weights_at(4) == {"kl_weight": 1.0, "temperature": pytest.approx(0.25)}
    assert made.weights_at(100) == {"kl_weight": 1.0, "temperature": pytest.approx(0.0625)}
    made.update(next_step=2)
    assert made.temperature.item() == pytest.approx(0.5)
    at_once = GumbelQuantizer(3, size=5, temperature_steps=0, warmup_steps=0)
    assert at_once.weights_at(0) == {"kl_weight": 1.0, "temperature": pytest.approx(0.0625)}
    assert (at_once.formula(), made.formula()) == (" + kl", " + kl (its weight rises to 1 in 4 steps)")


def test_a_model_with_drawn_codes_has_a_posterior_a_prior_and_samples() -> None:
    settings: dict[str, Any] = {"quantizer": "gumbel", "quantizer_options": {"size": 5}, "widths": [8]}
    model = VQVAE(image_shape=[1, 8, 8], network="conv", **settings)
    x = torch.rand(3, 1, 8, 8)
    terms = model.eval().loss_terms(x)
    assert terms.kl.shape == (3, 16)
    close(terms.rate, terms.kl.sum(1))
    assert model.posterior(x).mean.shape == (3, 16 * 16)
    assert model.sample(4).shape == (4, 1, 8, 8)
    assert torch.equal(model.posterior(x).mean, model.encode(x))
    weights = {"kl_weight": 0.25, "temperature": 1.0}
    close(model.objective(terms, weights), terms.recon + 0.25 * terms.kl.sum(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "model.quantizer_options.size must be at least 1"),
        ({"least_temperature": 0.0}, "model.quantizer_options.least_temperature must be above 0"),
        ({"first_temperature": 0.01}, "model.quantizer_options.first_temperature must be at least 0.0625"),
        ({"warmup_steps": -1}, "model.quantizer_options.warmup_steps must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_quantizer("gumbel", None, options)
