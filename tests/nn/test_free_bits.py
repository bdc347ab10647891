"""Free bits are the paper's floor for the mean of a batch, and its gradient; elsewhere the KL is as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zoo_vectors import vector
from vaezoo.config.errors import ConfigError
from vaezoo.models import VAE, BetaVAE
from vaezoo.nn.free_bits import FreeBits, freed, make_free_bits


def test_both_rules_are_the_papers() -> None:
    given, value = vector("free_bits")
    kl, floor = given["kl"], given["lam"]
    assert freed(kl, floor).mean().item() == pytest.approx(value["per_dimension_of_batch_mean"], rel=1e-10)
    of_images = freed(kl, floor, per_image=True).mean().item()
    assert of_images == pytest.approx(value["per_image_and_dimension"], rel=1e-10)
    whole = FreeBits(floor, per_image=True)(kl.sum(1, keepdim=True), "whole", dimensions=3).mean().item()
    assert whole == pytest.approx(value["per_image_total"], rel=1e-10)


@pytest.mark.parametrize("per_image", [False, True])
def test_a_group_below_the_floor_has_no_gradient_and_another_that_of_its_kl(per_image: bool) -> None:
    kl = torch.tensor([[0.1, 2.0], [0.3, 0.4]], dtype=torch.double, requires_grad=True)
    cost = freed(kl, 0.5, per_image=per_image)
    (gradient,) = torch.autograd.grad(cost.sum(), kl)
    if per_image:
        assert cost.tolist() == pytest.approx([2.5, 1.0])
        assert gradient.tolist() == [[0, 1], [0, 0]]
        return
    assert cost.tolist() == pytest.approx([2.5, 0.9])  # their mean is max(0.5, 0.2) + max(0.5, 1.2)
    assert gradient.tolist() == [[0, 1], [0, 1]]


def made(kind: type[VAE] = VAE, **options: Any) -> tuple[VAE, Tensor]:
    torch.manual_seed(5)
    return kind(image_shape=(1, 8, 8), latent_dim=3, widths=[16], **options), torch.rand(6, 1, 8, 8)


def losses(model: VAE, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(6)
    return model.losses((x,), model.weights())


@pytest.mark.parametrize("kind", [VAE, BetaVAE])
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_objective_has_a_floor_and_logged_terms_are_raw(kind: type[VAE], posterior: str) -> None:
    plain, x = made(kind, posterior=posterior)
    floored, _ = made(kind, posterior=posterior, free_bits=0.5)
    loss, values = losses(floored, x)
    _, raw = losses(plain, x)
    assert torch.equal(values["kl"], raw["kl"])
    assert torch.equal(values["recon"], raw["recon"])
    assert raw["kl"].mean() < 1.5  # untrained
    assert loss.item() == pytest.approx((raw["recon"].mean() + floored.beta * 1.5).item())


@pytest.mark.parametrize("options", [{"free_bits": 0}, {"free_bits": 0.0, "free_bits_options": {"per_image": True}}])
def test_no_free_bits_are_the_plain_objective_to_the_last_bit(options: dict[str, Any]) -> None:
    loss, values = losses(*made(**options))
    expected, expected_values = losses(*made())
    assert torch.equal(loss, expected)
    assert values.keys() == expected_values.keys()


def test_validation_leaves_out_an_objective_that_depends_on_the_batch() -> None:
    model, x = made(free_bits=0.5)
    assert model.loss_terms(x).batch_statistics == {"free_bits"}
    model, x = made(free_bits=0.5, free_bits_options={"per_image": True})
    assert not model.loss_terms(x).batch_statistics


def test_the_floor_is_said() -> None:
    assert made(free_bits=0.5)[0].formula() == "recon + sum max(0.5, mean kl)"
    model, _ = made(BetaVAE, free_bits=0.5, free_bits_options={"per_image": True})
    assert model.formula() == "recon + 4 sum max(0.5, kl)"
    assert "free bits 0.5: a dimension or level costs no less than 0.5 nats of each image" in model.explain_weights()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"free_bits": -0.5}, r"model\.free_bits must be above 0, got -0\.5"),
        ({"free_bits": 0.5, "free_bits_options": {"images": 3}}, r"model\.free_bits_options\.images is not a setting"),
        ({"free_bits": 0.5, "bound": "iwae"}, r"model\.free_bits is a floor for the KL of model\.bound=elbo, and iwae"),
        (
            {"free_bits": 0.5, "scheduler": {"name": "ReduceLROnPlateau"}},
            r"watches val/loss, which model\.free_bits does not have .* set model\.scheduler\.monitor to val/elbo",
        ),
    ],
)
def test_mistakes_in_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_capacity_and_free_bits_are_not_combined() -> None:
    with pytest.raises(ConfigError, match=r"model\.capacity and model\.free_bits both keep up the KL"):
        made(BetaVAE, capacity=5.0, free_bits=0.5)


def test_null_and_zero_mean_no_floor() -> None:
    assert make_free_bits(None) is None
    assert make_free_bits(0.0) is None
