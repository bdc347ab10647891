"""What is true of every variant of the zoo, whatever it minimises."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaezoo.choices import LIKELIHOODS, NETWORKS
from vaezoo.models import Autoencoder
from vaezoo.posteriors import DiagonalGaussian
from vaezoo.sums import Sums

Make = Callable[..., Autoencoder]


def test_terms_are_one_number_per_image_and_latent_dimension(variant: str, make_model: Make) -> None:
    model = make_model(variant, "model.latent_dim=3")
    terms = model.loss_terms(torch.rand(5, 1, 16, 16))
    assert terms.recon.shape == (5,)
    assert terms.kl.shape in [(5, 3), (5, 0)]
    assert model.objective(terms, model.weights()).shape == (5,)


def test_an_untrained_bernoulli_decoder_costs_about_ln_2_nats_a_pixel(variant: str, make_model: Make) -> None:
    recon = make_model(variant, "model.likelihood=bernoulli").loss_terms(torch.rand(64, 1, 16, 16).round()).recon.mean()
    assert recon.item() == pytest.approx(256 * math.log(2), rel=0.05)


def test_a_constant_image_twice_the_size_costs_four_times_the_nats(variant: str, make_model: Make) -> None:
    small, large = (
        make_model(variant, image_shape=[1, size, size]).loss_terms(torch.ones(64, 1, size, size)).recon.mean().item()
        for size in (16, 32)
    )
    assert large / small == pytest.approx(4, rel=0.1)


def test_nothing_depends_on_the_batch(variant: str, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussian, "sample", lambda posterior: posterior.mean + posterior.std)
    model = make_model(variant)
    x = torch.rand(6, 1, 16, 16)
    together, alone = model.loss_terms(x), model.loss_terms(x[:1])
    torch.testing.assert_close(alone.kl, together.kl[:1])
    torch.testing.assert_close(alone.recon, together.recon[:1])
    torch.testing.assert_close(model.objective(alone, model.weights()), model.objective(together, model.weights())[:1])


def test_a_batch_of_one_image_trains(variant: str, make_model: Make) -> None:
    model = make_model(variant)
    model.objective(model.loss_terms(torch.rand(1, 1, 16, 16)), model.weights()).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert sum(p.grad is not None for p in model.parameters()) == len(list(model.parameters()))


def test_kl_is_the_same_quantity_whatever_weighs_it(variant: str, make_model: Make) -> None:
    model, vae = make_model(variant, "model.network=mlp"), make_model("vae")
    x = torch.rand(4, 1, 16, 16)
    terms = model.loss_terms(x)
    if terms.has_posterior:
        vae.load_state_dict(model.state_dict())
        torch.testing.assert_close(terms.kl, vae.loss_terms(x).kl)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("image_shape", [[1, 8, 8], [3, 20, 13], [2, 33, 64]])
def test_every_model_takes_every_network_and_image(
    variant: str, network: str, image_shape: list[int], make_model: Make
) -> None:
    model = make_model(variant, f"model.network={network}", "model.latent_dim=2", image_shape=image_shape)
    x = torch.rand(2, *image_shape)
    assert model.encode(x).shape == (2, 2)
    assert model.reconstruct(x).shape == x.shape
    assert torch.isfinite(model.objective(model.loss_terms(x), model.weights())).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_model_takes_every_likelihood_and_learns(variant: str, likelihood: str, make_model: Make) -> None:
    model = make_model(variant, f"model.likelihood={likelihood}", "model.widths=[32]", image_shape=[1, 8, 8])
    x = (255 * torch.rand(16, 1, 8, 8)).round() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.objective(model.loss_terms(x), model.weights()).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < losses[0]


def test_the_image_api_gives_pixels(variant: str, make_model: Make) -> None:
    model = make_model(variant, image_shape=[3, 12, 10]).eval()
    x, y = torch.rand(4, 3, 12, 10), torch.rand(4, 3, 12, 10)
    path = model.interpolate(x, y, steps=5, method="spherical")
    assert path.shape == (4, 5, 3, 12, 10)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x))
    torch.testing.assert_close(path[:, -1], model.reconstruct(y))
    for pixels in (path, model.reconstruct(x), model.decode(torch.randn(2, model.latent_dim))):
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    assert not path.requires_grad


def test_samples_follow_their_generator_and_an_ae_has_none(variant: str, make_model: Make) -> None:
    model = make_model(variant).eval()
    before = torch.get_rng_state()
    one, same, other = (model.sample(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    if model.posterior(torch.rand(1, 1, 16, 16)) is None:
        assert one is None
        return
    assert one is not None
    assert same is not None
    assert other is not None
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_hyperparameters_are_plain_and_make_the_same_model_again(
    variant: str, make_model: Make, tmp_path: Path
) -> None:
    model = make_model(variant, "model.widths=[16,8]", "model.network=conv", "model.optimizer.lr=0.01")
    torch.save(dict(model.hparams), tmp_path / "hparams")
    again = type(model)(**torch.load(tmp_path / "hparams", weights_only=True))
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(again.reconstruct(x), model.reconstruct(x))
    assert again.hparams["optimizer"]["lr"] == 0.01


def test_losses_stay_in_float32_under_autocast(variant: str, make_model: Make) -> None:
    model = make_model(variant)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss_terms(torch.rand(2, 1, 16, 16))
    assert terms.recon.dtype == terms.kl.dtype == torch.float32


def test_evaluation_encodes_each_image_once(variant: str, make_model: Make) -> None:
    model, encoded = make_model(variant), []
    model.encoder.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    model._evaluate(torch.rand(7, 1, 16, 16), Sums())
    assert encoded == [7]


def test_terms_without_the_code_evaluate_to_the_same_numbers(
    variant: str, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = make_model(variant), torch.rand(7, 1, 16, 16)
    given, without = Sums(), Sums()
    torch.manual_seed(1)
    model._evaluate(x, given)
    terms = model.loss_terms
    monkeypatch.setattr(model, "loss_terms", lambda images: dataclasses.replace(terms(images), code=None))
    torch.manual_seed(1)
    model._evaluate(x, without)
    assert given.totals.keys() == without.totals.keys()
    for name, total in given.totals.items():
        assert torch.equal(total, without.totals[name]), name
