"""Each variant minimises the equation of its paper."""

import pytest
import torch

from vaezoo.config.errors import ConfigError
from vaezoo.models import AE, VAE, BetaVAE, ConvVAE
from vaezoo.training.terms import Terms

SHAPE = [1, 8, 8]
TERMS = Terms(recon=torch.tensor([10.0, 20.0]), kl=torch.tensor([[1.0, 2.0], [0.5, 0.25]]))


def at_step(model: BetaVAE, step: int) -> BetaVAE:
    """The model as if it had been trained for so many steps."""

    class Trainer:
        global_step = step

    model._fabric = None
    model._trainer = Trainer()  # type: ignore[assignment]
    return model


def test_ae_minimises_the_reconstruction_alone() -> None:
    assert AE(image_shape=SHAPE).objective(TERMS, {}).tolist() == [10, 20]


def test_vae_minimises_minus_the_elbo() -> None:
    torch.testing.assert_close(VAE(image_shape=SHAPE).objective(TERMS, {}), -TERMS.elbo)


def test_conv_vae_is_a_vae_with_another_network() -> None:
    model = ConvVAE(image_shape=SHAPE)
    assert model.hparams["network"] == "conv"
    torch.testing.assert_close(model.objective(TERMS, model.weights()), -TERMS.elbo)


def test_beta_vae_weighs_the_kl() -> None:
    assert BetaVAE(image_shape=SHAPE, beta=4.0).objective(TERMS, {"beta": 4.0}).tolist() == [22, 23]


def test_beta_one_is_the_vae_and_beta_zero_no_kl() -> None:
    assert BetaVAE(image_shape=SHAPE, beta=1.0).objective(TERMS, {"beta": 1.0}).tolist() == [13, 20.75]
    assert BetaVAE(image_shape=SHAPE, beta=0.0).objective(TERMS, {"beta": 0.0}).tolist() == [10, 20]


@pytest.mark.parametrize(("step", "beta"), [(0, 0.0), (50, 2.0), (100, 4.0), (1000, 4.0)])
def test_warm_up_follows_the_step(step: int, beta: float) -> None:
    model = at_step(BetaVAE(image_shape=SHAPE, beta=4.0, beta_schedule="linear", schedule_steps=100), step)
    assert model.weights() == {"beta": beta}
    assert model.objective(TERMS, model.weights())[0].item() == 10 + 3 * beta


@pytest.mark.parametrize(("step", "expected"), [(0, 10 + 5 * 3.0), (50, 10 + 5 * 1.0), (100, 10 + 5 * 1.0)])
def test_capacity_draws_each_images_kl_to_a_rising_number_of_nats(step: int, expected: float) -> None:
    model = at_step(BetaVAE(image_shape=SHAPE, beta=5.0, capacity=4.0, capacity_steps=100), step)
    assert model.objective(TERMS, model.weights())[0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": -1.0}, "model.beta must be at least 0, got -1"),
        ({"latent_dim": 0}, "model.latent_dim must be at least 1, got 0"),
        ({"beta_schedule": "step"}, "model.beta_schedule must be one of"),
        ({"schedule_steps": 0}, "model.schedule_steps must be at least 1"),
        ({"capacity": -3.0}, "model.capacity must be at least 0"),
        ({"capacity": 3.0, "beta_schedule": "linear"}, "needs model.beta_schedule=constant"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BetaVAE(image_shape=SHAPE, **settings)  # type: ignore[arg-type]


def test_formulas_say_what_is_minimised() -> None:
    assert AE(image_shape=SHAPE).formula() == "recon"
    assert VAE(image_shape=SHAPE).formula() == "recon + kl"
    assert BetaVAE(image_shape=SHAPE, beta=2.0).formula() == "recon + 2 kl"
    assert (
        "cycles up to it every 500 steps"
        in BetaVAE(image_shape=SHAPE, beta_schedule="cyclic", schedule_steps=500).formula()
    )
    assert "|kl - C|" in BetaVAE(image_shape=SHAPE, capacity=25.0).formula()
