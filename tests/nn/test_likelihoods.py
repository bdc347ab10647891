"""Each likelihood is a distribution: it adds up to one, and its value is that of the textbook."""

import math

import pytest
import torch
from torch.nn import functional as F

from vaezoo.config.choices import LIKELIHOODS
from vaezoo.config.errors import ConfigError
from vaezoo.nn.likelihoods import make_likelihood

LEVELS = torch.arange(256) / 255


def pixelwise(name: str, x: torch.Tensor, output: float, **options: object) -> torch.Tensor:
    """log p of each of many one-pixel images under the same decoder output."""
    likelihood = make_likelihood(name, options)
    return likelihood.log_prob(x.reshape(-1, 1, 1, 1), torch.full((len(x), 1, 1, 1), output))


@pytest.mark.parametrize("output", [-6.0, -0.7, 0.0, 1e-3, 2.0, 9.0])
@pytest.mark.parametrize(("name", "x"), [("bernoulli", torch.tensor([0.0, 1.0])), ("discretized_logistic", LEVELS)])
def test_probabilities_of_all_values_add_up_to_one(name: str, x: torch.Tensor, output: float) -> None:
    assert pixelwise(name, x, output).exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("output", [-60.0, -20.0, -4.0, -0.7, -0.5, 0.0, 1e-3, 0.61, 2.0, 30.0])
def test_the_continuous_bernoullis_density_has_area_one_and_the_mean_that_it_says(output: float) -> None:
    x = torch.linspace(0, 1, 200_001, dtype=torch.double)
    density = pixelwise("continuous_bernoulli", x, output).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)
    mean = make_likelihood("continuous_bernoulli").mean(torch.full((1, 1, 1, 1), output)).item()
    assert torch.trapezoid(x * density, x).item() == pytest.approx(mean, abs=1e-3)


def test_the_continuous_bernoulli_is_torchs_where_that_is_not_clamped() -> None:
    outputs, x = 8 * torch.randn(50, 1, 4, 4, dtype=torch.double), torch.rand(50, 1, 4, 4, dtype=torch.double)
    expected = torch.distributions.ContinuousBernoulli(logits=outputs).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(make_likelihood("continuous_bernoulli").log_prob(x, outputs), expected)


def test_the_continuous_bernoulli_has_a_gradient_everywhere() -> None:
    outputs = torch.tensor([-80.0, -0.3, 0.0, 1e-8, 0.3, 80.0]).reshape(-1, 1, 1, 1).requires_grad_()
    likelihood = make_likelihood("continuous_bernoulli")
    likelihood.log_prob(torch.full_like(outputs, 0.25), outputs).sum().backward()
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad, 0.25 - likelihood.mean(outputs.detach()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gaussian", {"sigma": 0.3}),
        ("learned_gaussian", {"sigma": "shared"}),
        ("laplace", {"scale": 0.05}),
        ("laplace", {"scale": 0.5}),
        ("log_cosh", {"scale": 0.05}),
        ("log_cosh", {"scale": 0.5}),
    ],
)
def test_a_density_has_area_one_on_the_line_and_its_mean_at_the_pixel(name: str, options: dict[str, object]) -> None:
    x = torch.linspace(-10, 11, 40_001, dtype=torch.double)
    density = pixelwise(name, x, 0.4, **options).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-3)
    mean = make_likelihood(name, options).mean(torch.full((1, 1, 1, 1), 0.4)).item()
    assert torch.trapezoid(x * density, x).item() == pytest.approx(mean, abs=1e-3)


def test_bernoulli_is_binary_cross_entropy_summed_over_pixels() -> None:
    x, outputs = torch.rand(4, 3, 5, 6).round(), torch.randn(4, 3, 5, 6)
    p = torch.sigmoid(outputs)
    by_hand = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(make_likelihood("bernoulli").log_prob(x, outputs), by_hand)


def test_gaussian_is_squared_error_over_two_sigma_squared_plus_its_constant() -> None:
    x, outputs, sigma = torch.rand(4, 1, 5, 6), torch.randn(4, 1, 5, 6), 0.2
    error = (x - torch.sigmoid(outputs)).square().sum((1, 2, 3))
    by_hand = -error / (2 * sigma**2) - 30 * 0.5 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(make_likelihood("gaussian", {"sigma": sigma}).log_prob(x, outputs), by_hand)


def test_laplace_is_absolute_error_over_its_scale_plus_its_constant() -> None:
    x, outputs = torch.rand(4, 1, 5, 6), torch.randn(4, 1, 5, 6)
    expected = torch.distributions.Laplace(torch.sigmoid(outputs), 0.2).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(make_likelihood("laplace", {"scale": 0.2}).log_prob(x, outputs), expected)


@pytest.mark.parametrize("name", ["laplace", "log_cosh"])
def test_a_learned_scale_is_a_fixed_one_of_its_value_and_is_drawn_to_the_errors(name: str) -> None:
    x, outputs = torch.rand(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    learned = make_likelihood(name, {"scale": "shared"})
    with torch.no_grad():
        learned.log_scale.fill_(math.log(0.2))  # type: ignore[union-attr,operator]
    torch.testing.assert_close(learned.nll(x, outputs), make_likelihood(name, {"scale": 0.2}).nll(x, outputs))
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        learned.nll(x, outputs).sum().backward()
        optimizer.step()
    found = float(learned.log_scale.exp())  # type: ignore[union-attr,operator]
    if name == "laplace":
        assert found == pytest.approx(float((x - outputs.sigmoid()).abs().mean()), rel=1e-3)  # the closed form
    losses = [float(make_likelihood(name, {"scale": factor * found}).nll(x, outputs).sum()) for factor in (0.9, 1, 1.1)]
    assert losses[1] == min(losses)
    with torch.no_grad():
        learned.log_scale.fill_(-20)  # type: ignore[union-attr,operator]
    assert "learned scale, now 0.001" in learned.describe()


def test_log_cosh_is_its_name_plus_its_constant() -> None:
    x, outputs = torch.rand(4, 1, 5, 6), torch.randn(4, 1, 5, 6)
    errors = (x - torch.sigmoid(outputs)) / 0.2
    expected = (errors.cosh().log() + math.log(math.pi * 0.2)).sum((1, 2, 3))
    torch.testing.assert_close(make_likelihood("log_cosh", {"scale": 0.2}).nll(x, outputs), expected)


def test_log_cosh_is_a_square_for_small_errors_and_absolute_for_large_ones_without_overflow() -> None:
    likelihood = make_likelihood("log_cosh", {"scale": 1e-3})
    exact = -math.log(math.pi * 1e-3)
    x = torch.tensor([0.5, 0.50001, 1.0], dtype=torch.double).reshape(-1, 1, 1, 1)
    outputs = torch.zeros(3, 1, 1, 1, dtype=torch.double, requires_grad=True)
    found = likelihood.log_prob(x, outputs)
    expected = torch.tensor([exact, exact - 0.01**2 / 2, exact - 500 + math.log(2)], dtype=torch.double)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-8)
    found.sum().backward()
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad.flatten(), 250 * expected.new_tensor([0, math.tanh(0.01), 1]))


def test_discretized_logistic_equals_the_difference_of_two_sigmoids() -> None:
    likelihood = make_likelihood("discretized_logistic").double()
    scale = math.exp(-2)
    x, outputs = LEVELS[1:-1].double(), torch.full((254,), 0.3, dtype=torch.double)
    mean = torch.sigmoid(outputs)
    mass = torch.sigmoid((x + 0.5 / 255 - mean) / scale) - torch.sigmoid((x - 0.5 / 255 - mean) / scale)
    ours = likelihood.log_prob(x.reshape(-1, 1, 1, 1), outputs.reshape(-1, 1, 1, 1))
    torch.testing.assert_close(ours, mass.log(), rtol=1e-5, atol=1e-5)


def test_discretized_logistic_stays_finite_far_from_the_image_with_a_narrow_scale() -> None:
    likelihood = make_likelihood("discretized_logistic")
    with torch.no_grad():
        likelihood.log_scale.fill_(-8.0)  # type: ignore[union-attr,operator]
    outputs = torch.full((256, 1, 1, 1), -12.0, requires_grad=True)
    log_prob = likelihood.log_prob(LEVELS.reshape(-1, 1, 1, 1), outputs)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_shared_sigma_is_trained_to_the_root_of_the_mean_squared_error() -> None:
    likelihood = make_likelihood("learned_gaussian")
    x, outputs = torch.rand(64, 1, 4, 4), torch.zeros(64, 1, 4, 4)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-likelihood.log_prob(x, outputs).mean()).backward()
        optimizer.step()
    expected = F.mse_loss(torch.full_like(x, 0.5), x).sqrt().item()
    assert math.exp(likelihood.log_sigma.item()) == pytest.approx(expected, rel=0.01)


def test_optimal_sigma_has_the_closed_form_value_and_the_gradient_of_the_log_of_the_error() -> None:
    likelihood = make_likelihood("learned_gaussian", {"sigma": "optimal"})
    x, outputs = torch.rand(8, 1, 4, 4), torch.randn(8, 1, 4, 4, requires_grad=True)
    ours = -likelihood.log_prob(x, outputs).sum()
    mse = F.mse_loss(torch.sigmoid(outputs), x)
    by_hand = x.numel() / 2 * (torch.log(2 * math.pi * mse) + 1)
    torch.testing.assert_close(ours, by_hand)
    torch.testing.assert_close(torch.autograd.grad(ours, outputs)[0], torch.autograd.grad(by_hand, outputs)[0])


def test_optimal_sigma_in_evaluation_is_one_that_has_not_seen_the_image() -> None:
    likelihood = make_likelihood("learned_gaussian", {"sigma": "optimal"})
    outputs = torch.zeros(8, 1, 4, 4)
    likelihood.log_prob(torch.full((8, 1, 4, 4), 0.7), outputs)
    likelihood.eval()
    one, many = torch.rand(1, 1, 4, 4), torch.rand(7, 1, 4, 4)
    alone = likelihood.log_prob(one, outputs[:1])
    together = likelihood.log_prob(torch.cat([one, many]), outputs)[:1]
    torch.testing.assert_close(alone, together)
    assert math.exp(likelihood.log_sigma.item()) == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_pixels_lie_between_zero_and_one_and_keep_the_shape(name: str) -> None:
    pixels = make_likelihood(name).mean(30 * torch.randn(2, 3, 8, 9))
    assert pixels.shape == (2, 3, 8, 9)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_grey_pixels_are_outside_what_a_bernoulli_is_defined_on() -> None:
    bernoulli = make_likelihood("bernoulli")
    images = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5)])
    assert bernoulli.supports(images).tolist() == [True, True, False]
    assert make_likelihood("continuous_bernoulli").supports(images).all()


def test_only_multiples_of_one_255th_are_levels_of_the_discretized_logistic() -> None:
    images = torch.stack([torch.full((1, 2, 2), 7 / 255), torch.full((1, 2, 2), 7.5 / 255)])
    assert make_likelihood("discretized_logistic").supports(images).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bernouli", {}, "model.likelihood must be one of"),
        ("bernoulli", {"sigma": 1.0}, "sigma is not a setting here"),
        ("gaussian", {"sigma": "wide"}, "must be float, got 'wide'"),
        ("gaussian", {"sigma": 0.0}, "must be above 0"),
        ("laplace", {"scale": 0.0}, "model.likelihood_options.scale must be above 0"),
        ("laplace", {"scale": "optimal"}, "scale must be a number or shared, got 'optimal'"),
        ("log_cosh", {"sigma": 0.1}, "sigma is not a setting here; did you mean|known names: scale"),
        ("learned_gaussian", {"sigma": "both"}, "must be shared or optimal"),
    ],
)
def test_a_wrong_name_or_option_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_likelihood(name, options)
