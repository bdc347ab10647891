"""Discriminators of images: their losses, their size, the penalty on slopes, and how gradients balance a weight."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo_vectors import discrete, numbers
from vaezoo.config.errors import ConfigError
from vaezoo.nn.adversarial_losses import LOSSES, NONSATURATING
from vaezoo.nn.discriminators import make_discriminator
from vaezoo.nn.discriminators.balance import gradient_ratio
from vaezoo.nn.networks import Labelled, last_weight, make_networks
from vaezoo.nn.penalties.base import Encoded

SHAPE = [1, 16, 16]


def made(**options: Any) -> Any:
    found = make_discriminator("patches", SHAPE, {"width": 4, **options})
    found.plan(10)
    return found


def given(count: int = 3, **more: Any) -> Encoded:
    return Encoded(torch.rand(count, *SHAPE), torch.zeros(count, 2), pixels=torch.rand(count, *SHAPE), **more)


# losses --------------------------------------------------------------------------------------------------------------


def test_losses_are_those_of_the_papers() -> None:
    expected = discrete()["gan_losses"].tolist()
    r = numbers(18)
    real, fake = torch.from_numpy(2 * r.randn(7)), torch.from_numpy(2 * r.randn(5))
    found: list[float] = []
    for loss in LOSSES.values():
        found += [(loss.of_real(real).mean() + loss.of_fake(fake).mean()).item(), loss.generator(fake).mean().item()]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_best_critic_has_a_loss_of_2_log_2_minus_twice_the_jensen_shannon_divergence() -> None:
    expected = discrete()["aae_optimal_discriminator"].item()
    x = torch.linspace(-12, 14, 200_001, dtype=torch.double)
    log_p, log_q = (-0.5 * (x - mean) ** 2 - 0.5 * math.log(2 * math.pi) for mean in (0.0, 1.5))
    logit = log_p - log_q
    loss = log_p.exp() * NONSATURATING.of_real(logit) + log_q.exp() * NONSATURATING.of_fake(logit)
    assert torch.trapezoid(loss, x).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "critic", "generator"), [("hinge", 2, 0), ("nonsaturating", 1.386, 0.693)])
def test_without_any_evidence_losses_are_known_numbers(name: str, critic: float, generator: float) -> None:
    discriminator = made(loss=name)
    nn.init.zeros_(discriminator.critic[-1].weight)
    term, loss = discriminator(given())
    torch.testing.assert_close(loss, torch.full((3,), float(critic)), atol=1e-3, rtol=0)
    torch.testing.assert_close(term, torch.full((3,), float(generator)), atol=1e-3, rtol=0)


def test_losses_of_an_image_do_not_depend_on_the_batch_and_move_their_own_player_alone() -> None:
    discriminator, seen = made(r1=1.0), given()
    pixels = seen._replace(pixels=seen.pixels.clone().requires_grad_())  # type: ignore[union-attr]
    term, loss = discriminator(pixels)
    alone = [discriminator(Encoded(seen.x[[n]], seen.code[[n]], pixels=seen.pixels[[n]])) for n in range(3)]  # type: ignore[index]
    torch.testing.assert_close(term, torch.cat([each[0] for each in alone]))
    torch.testing.assert_close(loss, torch.cat([each[1] for each in alone]))
    term.sum().backward()
    assert pixels.pixels.grad.flatten(1).any(1).all()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    pixels.pixels.grad = None  # type: ignore[union-attr]
    loss.sum().backward()
    assert pixels.pixels.grad is None  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert discriminator.eval()(pixels)[1] is None


def test_the_penalty_is_the_squared_slope_at_real_images() -> None:
    discriminator, x = made(r1=3.0).double(), torch.rand(2, *SHAPE, dtype=torch.double)
    slopes = []
    for image in x:
        row: Tensor = torch.autograd.functional.jacobian(lambda at: discriminator.critic(at[None]).mean(), image)  # type: ignore[no-untyped-call]
        slopes.append(row.square().sum())
    torch.testing.assert_close(discriminator.squared_slope(x), torch.stack(slopes))
    plain = made().double()
    plain.load_state_dict(discriminator.state_dict())
    more = discriminator.critic_loss(x, 1 - x) - plain.critic_loss(x, 1 - x)
    torch.testing.assert_close(more, 1.5 * torch.stack(slopes))
    weight = discriminator.critic[1].weight
    (found,) = torch.autograd.grad(discriminator.squared_slope(x).sum(), weight)
    moved = torch.zeros_like(weight)
    moved[1, 0, 2, 1] = 1e-6
    sums = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * moved
        sums.append(discriminator.squared_slope(x).sum().item())
        with torch.no_grad():
            weight -= sign * moved
    assert found[1, 0, 2, 1].item() == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-4)


# the network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "channels", "layers", "parameters", "patches"),
    [(64, 3, None, 2_765_633, 6), (32, 3, None, 663_361, 6), (28, 1, 2, 661_313, 5), (8, 1, None, None, 2)],
)
def test_a_critic_of_patches_has_the_layers_of_pix2pix(
    side: int, channels: int, layers: int | None, parameters: int | None, patches: int
) -> None:
    critic = make_discriminator("patches", [channels, side, side], {"layers": layers}).critic
    assert critic(torch.zeros(2, channels, side, side)).shape == (2, 1, patches, patches)
    assert parameters in (None, sum(parameter.numel() for parameter in critic.parameters()))
    assert critic[1].weight.std().item() == pytest.approx(0.02, rel=0.1)  # type: ignore[index, union-attr]


# the weight ----------------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_the_gradients_of_the_last_layer() -> None:
    expected = discrete()["adaptive_weight"].item()
    r = numbers(19)
    weight, h, x, a = (torch.from_numpy(r.randn(*size)) for size in ((6, 3), (4, 3), (4, 6), (6,)))
    last = nn.Parameter(weight)
    y = h @ last.T
    of_pixels, adversarial = 0.5 * (x - y).square().sum(1), -(y @ a)
    assert gradient_ratio(of_pixels, adversarial, last, 6).item() == pytest.approx(expected, rel=1e-6)
    assert gradient_ratio(of_pixels, 0 * adversarial, last, 6).item() < 1e4 * 6
    assert gradient_ratio(1e9 * of_pixels, 0 * adversarial, last, 6).item() == 1e4 * 6


def test_a_weight_that_sits_at_its_largest_is_complained_of() -> None:
    made = make_discriminator("patches", [1, 16, 16], {"width": 4})
    made.ratio.fill_(0.999e4 * 256)
    assert made.complaint() is None
    made.ratio.fill_(1e4 * 256)
    assert "the weight of generator is at its largest, 2,560,000, because its gradient has vanished" in made.complaint()
    unbalanced = make_discriminator("patches", [1, 16, 16], {"width": 4, "balance": "none"})
    assert unbalanced.complaint() is None


def test_the_weighted_gradient_of_the_last_layer_is_as_long_as_that_of_reconstruction() -> None:
    decoder = nn.Sequential(nn.Linear(2, 256), nn.Unflatten(1, SHAPE))
    discriminator, x = made(weight=1.0, start=0), torch.rand(5, *SHAPE)
    pixels = torch.sigmoid(decoder(torch.randn(5, 2)))
    recon = 50 * (x - pixels).square().flatten(1).sum(1)
    term, _ = discriminator(Encoded(x, torch.zeros(5, 2), pixels=pixels))
    weighted = discriminator.weigh(term, discriminator.weights(0), recon, decoder)
    norms = [
        torch.autograd.grad(each.mean(), decoder[0].weight, retain_graph=True)[0].norm() for each in (recon, weighted)
    ]  # type: ignore[arg-type]
    torch.testing.assert_close(*norms, rtol=1e-2, atol=0)
    kept = discriminator.ratio.item()
    assert kept > 0
    torch.testing.assert_close(discriminator.eval().weigh(term, discriminator.weights(0), recon, decoder), kept * term)
    assert kept == discriminator.state_dict()["ratio"].item()


def test_before_its_first_step_a_discriminator_weighs_nothing() -> None:
    discriminator = made(start=0.5)
    assert [discriminator.weights(step)["generator_weight"] for step in (4, 5)] == [0, 0.5]
    assert [discriminator.waits(step) for step in (4, 5)] == [True, False]
    decoder = nn.Linear(2, 3)
    found = discriminator.weigh(torch.ones(2, requires_grad=True), discriminator.weights(0), torch.ones(2), decoder)
    assert not found.any()
    assert not found.requires_grad


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
def test_the_last_weight_of_a_decoder_is_that_of_the_layer_that_makes_pixels(network: str, classes: int | None) -> None:
    _, decoder = make_networks(network, (1, 16, 16), 4, 4, [8])
    found = last_weight(decoder if classes is None else Labelled(decoder, classes))  # type: ignore[arg-type]
    layers = [module for module in decoder.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    assert found is layers[-1].weight


# words ---------------------------------------------------------------------------------------------------------------


def test_the_formula_says_the_weight_and_when_it_begins() -> None:
    assert made().formula() == "0.5 ratio generator (from 10% of the run on)"
    late = make_discriminator("patches", SHAPE, {"balance": "none", "start": 1000, "weight": 2})
    assert late.formula() == "2 generator (from step 1,000 on)"
    assert made(start=0).formula() == "0.5 ratio generator"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"loss": "wasserstein"}, r"discriminator_options\.loss must be 'hinge' or 'nonsaturating' or 'least_squares'"),
        ({"balance": "auto"}, r"discriminator_options\.balance must be 'gradient' or 'none'"),
        ({"weight": -1.0}, r"discriminator_options\.weight must be at least 0, got -1"),
        ({"start": -1}, r"discriminator_options\.start must be at least 0"),
        ({"start": 1.5}, r"start must be a number of steps, or a share of the run below 1, got 1\.5"),
        ({"r1": -1.0}, r"discriminator_options\.r1 must be at least 0"),
        ({"lr": 0.0}, r"discriminator_options\.lr must be above 0"),
        ({"betas": [0.5]}, r"discriminator_options\.betas must be two numbers"),
        ({"width": 0}, r"discriminator_options\.width must be at least 1"),
        ({"layers": 3}, r"layers=3 needs images of at least 24 pixels a side, got 16x16; set fewer layers"),
        ({"depth": 3}, r"discriminator_options\.depth is not a setting here"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_discriminator("patches", SHAPE, options)


def test_a_discriminator_that_would_never_begin_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start=10 is after the last of the run's 10 steps"):
        make_discriminator("patches", SHAPE, {"start": 10}).plan(10)
    with pytest.raises(ConfigError, match=r"start=0\.1 is a share of the run, which has no end; set a number of steps"):
        make_discriminator("patches", SHAPE).plan(0)


def test_the_first_step_stays_when_a_resumed_run_becomes_longer() -> None:
    first, resumed, changed = (make_discriminator("patches", SHAPE, {"start": start}) for start in (0.5, 0.5, 0.4))
    first.plan(10)
    for later in (resumed, changed):
        later.resume(first.planned())
        later.plan(20)
    assert [each.first_step for each in (first, resumed, changed)] == [5, 5, 8]


def test_what_cannot_be_compiled_says_so() -> None:
    assert "balance=gradient takes gradients within a step" in made().no_compile()
    assert "r1=2 is differentiated twice" in made(balance="none", r1=2.0).no_compile()
    assert made(balance="none").no_compile() is None
