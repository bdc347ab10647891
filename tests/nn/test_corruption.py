"""Corruptions are what they say, and a denoiser learns what theory says."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import some_models
from tests.zoo_vectors import vector
from vaezoo.commands.check import Make, clauses
from vaezoo.config.choices import CORRUPTIONS
from vaezoo.config.errors import ConfigError
from vaezoo.nn.corruption import make_corruption


def test_gaussian_noise_has_its_sigma_and_is_not_clamped() -> None:
    noise = make_corruption("gaussian", {"sigma": 0.5})(torch.ones(100, 1, 20, 20)) - 1
    error = 4 / math.sqrt(noise.numel())
    assert noise.mean().item() == pytest.approx(0, abs=0.5 * error)
    assert noise.std().item() == pytest.approx(0.5, abs=0.5 * error)
    assert noise.max() > 1


@pytest.mark.parametrize(("name", "values"), [("masking", {0.0: 0.3}), ("salt_pepper", {0.0: 0.15, 1.0: 0.15})])
def test_pixels_are_replaced_with_their_probability(name: str, values: dict[float, float]) -> None:
    x = torch.full((100, 2, 20, 20), 0.5)
    found = make_corruption(name, {"share": 0.3})(x)
    for value, probability in values.items():
        share = (found == value).float().mean().item()
        assert share == pytest.approx(probability, abs=4 * math.sqrt(probability / x.numel()))
    assert (found == 0.5).float().mean().item() == pytest.approx(0.7, abs=0.01)
    assert not torch.equal(found[:, 0], found[:, 1])  # each channel has its own


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_without_noise_nothing_is_drawn_or_changed(name: str) -> None:
    x, before = torch.rand(3, 1, 8, 8), torch.get_rng_state()
    option = "sigma" if name == "gaussian" else "share"
    assert torch.equal(make_corruption(name, {option: 0.0})(x), x)
    assert torch.equal(torch.get_rng_state(), before)
    assert make_corruption(name).describe().startswith("x ")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("blur", None, "model.corruption must be one of gaussian, masking, salt_pepper, got 'blur'"),
        ("gaussian", {"sigma": -1.0}, "model.corruption_options.sigma must be at least 0, got -1"),
        ("masking", {"share": 1.5}, "model.corruption_options.share must be at most 1, got 1.5"),
        ("masking", {"sigma": 0.5}, "model.corruption_options.sigma is not a setting here; known names: share"),
    ],
)
def test_a_wrong_corruption_is_refused_in_one_sentence(name: str, options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_corruption(name, options)
    assert str(caught.value) == sentence


def test_a_linear_denoiser_learns_the_optimum() -> None:
    given, value = vector("denoising_linear_optimum")
    corrupt = make_corruption("gaussian", {"sigma": math.sqrt(given["s2"])})
    network, steps = nn.Linear(4, 4, bias=False, dtype=torch.double), 1500
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        x = torch.randn(2000, 4, dtype=torch.double) @ given["R"].T
        loss = (x - network(corrupt(x))).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    torch.testing.assert_close(
        network.weight.detach(), torch.tensor(value["denoiser"], dtype=torch.double), rtol=0, atol=0.01
    )
    assert sum(losses[-300:]) / 300 == pytest.approx(value["denoising_loss"], rel=0.01)


# in models -----------------------------------------------------------------------------------------------------------


def test_every_encoder_sees_corrupted_images_in_training_alone(variant: str, make_model: Make) -> None:
    model = make_model(variant, "model.corruption=masking", "model.corruption_options={share: 1.0}")
    seen: list[float] = []
    model.encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    x = torch.rand(5, 1, 16, 16)
    inputs = model.inputs((x, clauses.labels_for(model, 5)))
    model.loss_terms(*inputs)
    assert not seen[0].any()
    model.eval()
    model.loss_terms(*inputs)
    clauses.given(model, 5).encode(x)
    assert torch.equal(seen[-1], x)


def test_recon_is_of_the_clean_images(variant: str, make_model: Make) -> None:
    model = make_model(variant, "model.corruption=masking", "model.corruption_options={share: 1.0}").eval()
    model = clauses.given(model, 5)
    x = torch.rand(5, 1, 16, 16)
    torch.manual_seed(1)
    found = model.recon_corrupted(x)
    torch.manual_seed(1)
    zeros = torch.zeros_like(x)
    torch.rand(zeros.shape)  # drawn for the corruption
    posterior = model.posterior(zeros)
    code = model.encode(zeros) if posterior is None else posterior.draw(1).first
    torch.testing.assert_close(found, model.nll(x, code))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("variant", some_models(1))
def test_a_formula_names_the_corruption(name: str, variant: str, make_model: Make) -> None:
    formula = make_model(variant, f"model.corruption={name}", "model.corruption_options=null").formula()
    assert formula.endswith(make_corruption(name).describe())
