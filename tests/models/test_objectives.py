"""Each variant minimises the equation of its paper."""

import pytest
import torch
from torch.nn.functional import softplus

from vaezoo.config.errors import ConfigError
from vaezoo.metrics.images import ssim
from vaezoo.models import (
    AE,
    DIPVAE,
    VAE,
    VAEGAN,
    WAE,
    AdversarialAE,
    Autoencoder,
    BetaTCVAE,
    BetaVAE,
    ConvVAE,
    InfoVAE,
    SlicedWAE,
)
from vaezoo.training.running_means import RunningMeans
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
        "rises anew every 500 steps" in BetaVAE(image_shape=SHAPE, beta_schedule="cyclic", schedule_steps=500).formula()
    )
    assert "|kl - C|" in BetaVAE(image_shape=SHAPE, capacity=25.0).formula()


# penalties -----------------------------------------------------------------------------------------------------------


def objectives(model: Autoencoder, plain: Autoencoder) -> list[torch.Tensor]:
    """Objectives of two models with the same networks, on the same images and noise."""
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    x, found = torch.rand(6, 1, 8, 8), []
    for each in (model, plain):
        torch.manual_seed(2)
        found.append(each.objective(each.loss_terms(x), each.weights()))
    return found


@pytest.mark.parametrize(
    ("model", "plain"),
    [
        (BetaTCVAE(image_shape=SHAPE, penalty_options={"weight": 0.0}), VAE(image_shape=SHAPE)),
        (DIPVAE(image_shape=SHAPE, penalty_options={"weight": 0.0}), VAE(image_shape=SHAPE)),
        (InfoVAE(image_shape=SHAPE, alpha=0.0, lambd=1.0), VAE(image_shape=SHAPE)),
        (WAE(image_shape=SHAPE, penalty_options={"weight": 0.0}), AE(image_shape=SHAPE)),
        (SlicedWAE(image_shape=SHAPE, penalty_options={"weight": 0.0}), AE(image_shape=SHAPE)),
        (AdversarialAE(image_shape=SHAPE, penalty_options={"weight": 0.0}), AE(image_shape=SHAPE)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_penalty_without_weight_leaves_the_model_that_has_none(model: Autoencoder, plain: Autoencoder) -> None:
    one, other = objectives(model, plain)
    assert torch.equal(one, other)


def test_info_vae_weighs_kl_and_mmd_by_alpha_and_lambda() -> None:
    model = InfoVAE(image_shape=SHAPE, alpha=0.25, lambd=10.0)
    terms = Terms(recon=TERMS.recon, kl=TERMS.kl, penalties={"mmd": torch.tensor([2.0, 2.0])})
    assert model.objective(terms, {}).tolist() == [10 + 0.75 * 3 + 9.25 * 2, 20 + 0.75 * 0.75 + 9.25 * 2]
    assert model.formula() == "recon + 0.75 kl + 9.25 mmd"
    again = InfoVAE(**model.hparams)
    assert (again.formula(), again.hparams["penalty_options"]) == (model.formula(), None)


def test_the_kl_of_an_info_vae_may_have_free_bits() -> None:
    model = InfoVAE(image_shape=SHAPE, alpha=0.25, lambd=10.0, free_bits=1.0)
    terms = Terms(recon=TERMS.recon, kl=TERMS.kl, penalties={"mmd": torch.tensor([2.0, 2.0])})
    floored = torch.tensor([1 + 2.0, 1 + 0.25])  # the means over images are 0.75, below the floor, and 1.125
    torch.testing.assert_close(model.objective(terms, {}), TERMS.recon + 0.75 * floored + 9.25 * 2)
    assert model.formula() == "recon + 0.75 sum max(1, mean kl) + 9.25 mmd"


def test_beta_tc_vae_weighs_the_total_correlation_by_beta_in_all() -> None:
    """KL = information + TC + KL of dimensions, of which beta TC are minimised."""
    model = BetaTCVAE(image_shape=SHAPE)
    terms = Terms(recon=TERMS.recon, kl=TERMS.kl, penalties={"tc": torch.tensor([1.0, 2.0])})
    assert model.objective(terms, {}).tolist() == [10 + 3 + 5, 20 + 0.75 + 10]


def test_formulas_say_what_is_added() -> None:
    found = [made(image_shape=SHAPE).formula() for made in (DIPVAE, WAE, SlicedWAE, AdversarialAE)]
    assert found == ["recon + kl + 10 dip", "recon + 100 mmd", "recon + 100 swd", "recon + 1 adversarial"]


@pytest.mark.parametrize(
    ("made", "settings", "message"),
    [
        (InfoVAE, {"alpha": 0.5, "lambd": 0.4}, r"alpha \+ model\.lambd at least 1, .* got 0\.5 and 0\.4"),
        (InfoVAE, {"alpha": 1.5}, r"model\.alpha must be at most 1 .* got 1\.5 and"),
        (InfoVAE, {"penalty_options": {"weight": 3.0}}, r"weight follows from model\.alpha and model\.lambd"),
        (
            InfoVAE,
            {"bound": "iwae"},
            r"InfoVAE needs model\.bound=elbo .* because model\.alpha weighs its KL",
        ),
        (AE, {"penalty": "mmd"}, r"model\.penalty=mmd compares codes with draws of a prior, and .*set model\.prior=n"),
        (WAE, {"prior": None}, r"model\.penalty=mmd compares codes with draws of a prior"),
        (WAE, {"prior": "mixture"}, r"model\.prior=mixture is learned with the KL of a VAE, which WAE does not have"),
        (AE, {"prior": "normal", "penalty": "dip"}, r"model\.penalty=dip needs a posterior of .*; choose a VAE"),
    ],
)
def test_parts_that_do_not_fit_are_refused(made: type[Autoencoder], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(image_shape=SHAPE, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("penalty", "logged"), [("mmd", True), ("ssim", True), ("dip", False), ("adversarial", False)])
def test_a_biased_statistic_is_no_number_of_validation_and_then_there_is_no_loss(penalty: str, logged: bool) -> None:
    model, sums = VAE(image_shape=SHAPE, penalty=penalty), RunningMeans()
    model.eval()._evaluate((torch.rand(6, 1, 8, 8),), sums)
    assert model.penalty is not None
    assert (model.penalty.label in sums.totals) == ("loss" in sums.totals) == logged


def test_a_plateau_of_the_objective_is_watched_where_validation_has_one() -> None:
    plateau = {"name": "ReduceLROnPlateau"}
    WAE(image_shape=SHAPE, scheduler=plateau)
    with pytest.raises(ConfigError, match=r"which model\.penalty=sliced_wasserstein does not have in validation"):
        SlicedWAE(image_shape=SHAPE, scheduler=plateau)


# terms of decoded pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, 1),
        ({"bound": "iwae"}, 1),
        ({"bound": "iwae", "bound_options": {"estimator": "dreg"}}, 2),
        ({"bound_options": {"estimator": "stl"}}, 1),
        ({"bound": "piwae"}, 3),
    ],
    ids=str,
)
def test_a_term_of_pixels_has_its_own_gradient_and_mostly_no_decoder_pass_of_its_own(
    settings: dict[str, object], passes: int
) -> None:
    model = VAE(image_shape=[1, 16, 16], penalty="ssim", **settings)  # type: ignore[arg-type]
    calls: list[int] = []
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    x = torch.rand(3, 1, 16, 16)

    def gradients(share: float) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(1)
        terms = model.loss_terms(x)
        terms.penalties["one_minus_ssim"] = share * terms.penalties["one_minus_ssim"]
        return torch.autograd.grad(model.objective(terms, {}).sum(), [*model.parameters()])

    whole, rest = gradients(1.0), gradients(0.0)
    assert len(calls) == 2 * passes
    torch.manual_seed(1)
    code = model.posterior(x).draw(model.bound.samples).first
    alone = 100 * (1 - ssim(x, model.decode(code))).sum()
    for found, other, wanted in zip(whole, rest, torch.autograd.grad(alone, [*model.parameters()]), strict=True):
        torch.testing.assert_close(found - other, wanted, atol=2e-3, rtol=1e-3)


def test_vae_gan_gives_each_of_three_players_the_gradient_of_its_own_loss() -> None:
    """Encoder: kl + features. Decoder: gamma features + generator. Critic: images against both kinds of fakes."""
    model = VAEGAN(image_shape=[1, 16, 16], widths=[16], gamma=0.05, discriminator_options={"width": 4})
    x = torch.rand(4, 1, 16, 16)
    torch.manual_seed(1)
    terms = model.loss_terms(x)
    assert terms.critic is not None
    found = {
        name: torch.autograd.grad(loss.sum(), [*part.parameters()], retain_graph=True)
        for name, part, loss in (
            ("encoder", model.encoder, model.objective(terms, model.weights())),
            ("decoder", model.decoder, model.objective(terms, model.weights())),
            ("critic", model.discriminator.critic, terms.critic),  # type: ignore[union-attr]
        )
    }
    critic = model.discriminator.critic  # type: ignore[union-attr]
    torch.manual_seed(1)
    posterior = model.posterior(x)
    code = posterior.draw(1).first
    reconstructed, sampled = model.decode(code), model.decode(model.prior().sample(4))
    features = 0.5 * (critic[:-1](x) - critic[:-1](reconstructed)).square().sum()  # type: ignore[index]

    def each(images: torch.Tensor, sign: int) -> torch.Tensor:
        return softplus(sign * critic(images)).mean((1, 2, 3))

    kl = posterior.kl(model.prior(), posterior.draw(1)).sum()
    deceived = each(model.decode(code.detach()), -1).sum() + each(sampled, -1).sum()
    told_apart = each(x, -1) + each(reconstructed.detach(), 1) + each(sampled.detach(), 1)
    losses = {"encoder": kl + features, "decoder": 0.05 * features + deceived, "critic": told_apart.sum()}
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder), ("critic", critic)):
        wanted = torch.autograd.grad(losses[name], [*part.parameters()], retain_graph=True)
        for one, other in zip(found[name], wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_recon_of_a_vae_gan_fits_its_likelihood_alone() -> None:
    model = VAEGAN(
        image_shape=[1, 16, 16], widths=[16], likelihood="learned_gaussian", discriminator_options={"width": 4}
    )
    terms = model.loss_terms(torch.rand(4, 1, 16, 16))
    terms.recon.sum().backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert trained == ["likelihood.log_sigma"]
    with pytest.raises(ConfigError, match=r"set model\.bound=elbo and no free_bits"):
        VAEGAN(image_shape=[1, 16, 16], bound="iwae")
    with pytest.raises(ConfigError, match=r"compares images by a discriminator; set model\.discriminator=patches"):
        VAEGAN(image_shape=[1, 16, 16], discriminator=None)
