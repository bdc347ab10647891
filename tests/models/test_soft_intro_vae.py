"""Encoder and decoder of a Soft-IntroVAE each have the gradient of their own problem, as if they were trained apart."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.models import SoftIntroVAE

SHAPE = [1, 8, 8]
PIXELS = 64


def made(**settings: Any) -> SoftIntroVAE:
    torch.manual_seed(0)
    return SoftIntroVAE(image_shape=SHAPE, latent_dim=3, widths=[16], **{"beta_neg": 5.0, **settings})


def trains(module: nn.Module, flag: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(flag)


def of_code(model: SoftIntroVAE, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of the code of each image, with the given noise, and its KL in closed form: (B, D) and (B,)."""
    mean, logvar = model.encoder(x).chunk(2, 1)
    return mean + (0.5 * logvar).exp() * noise, 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)


def two_problems(
    model: SoftIntroVAE, x: Tensor, noise: dict[str, Tensor], beta: float, beta_neg: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """The losses of encoder and decoder as in the authors' code, whose scale is 1 / P: means over images.

    Each is computed with the other network's flags off and the batch's other half of the work done again, as a
    training in two steps does.
    """
    scale, decode, recon = 1 / PIXELS, model.decode, model.nll
    trains(model.encoder, True)
    trains(model.decoder, False)
    z, kl = of_code(model, x, noise["x"])
    fake, rec = decode(noise["prior"]).detach(), decode(z).detach()
    of_encoder = scale * (recon(x, z) + beta * kl).mean()
    for images, name in ((rec, "rec"), (fake, "fake")):
        code, kl_of_images = of_code(model, images, noise[name])
        elbo = recon(images, code) + beta_neg * kl_of_images
        of_encoder = of_encoder + 0.25 * (-2 * scale * elbo).exp().mean()
    trains(model.encoder, False)
    trains(model.decoder, True)
    z = z.detach()
    fake, rec = decode(noise["prior"]), decode(z)
    of_decoder = scale * recon(x, z).mean()
    for images, name in ((rec, "rec"), (fake, "fake")):
        code, kl_of_images = of_code(model, images, noise[name])
        of_decoder = of_decoder + 0.5 * scale * beta * kl_of_images.mean()
        of_decoder = of_decoder + 0.5 * scale * gamma * recon(images.detach(), code.detach()).mean()
    trains(model.encoder, True)
    return of_encoder, of_decoder


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "discretized_logistic", "laplace"])
def test_each_player_has_the_gradient_of_its_own_problem(likelihood: str) -> None:
    beta, gamma = 0.7, 0.3
    model = made(likelihood=likelihood, beta=beta, gamma=gamma).double()
    x = torch.rand(4, *SHAPE, dtype=torch.double)
    torch.manual_seed(1)
    terms = model.loss_terms(x)
    model.objective(terms, model.weights()).mean().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.manual_seed(1)
    posterior = model.posterior(x)
    noise = {"x": torch.zeros(())}
    with torch.no_grad():
        drawn = posterior.draw().first
        noise["x"] = (drawn - posterior.mean) / (0.5 * posterior.logvar).exp()
        noise["prior"] = torch.randn(4, 3, dtype=torch.float32).double()
        for name, code in {"rec": drawn, "fake": noise["prior"]}.items():
            decoded = model.posterior(model.decode(code))
            noise[name] = (decoded.draw().first - decoded.mean) / (0.5 * decoded.logvar).exp()
            decoded.draw()  # that of the decoder's side
    of_encoder, of_decoder = two_problems(model, x, noise, beta, 5.0, gamma)
    model.zero_grad()
    (PIXELS * of_encoder).backward()
    for name, parameter in model.encoder.named_parameters():
        torch.testing.assert_close(found[f"encoder.{name}"], parameter.grad, rtol=1e-5, atol=1e-7)
    trains(model.encoder, False)
    (PIXELS * of_decoder).backward()
    for name, parameter in model.decoder.named_parameters():
        torch.testing.assert_close(found[f"decoder.{name}"], parameter.grad, rtol=1e-5, atol=1e-7)


def test_the_values_of_the_terms_are_those_of_both_problems() -> None:
    """At the start of a network whose posterior is N(0, I) the KL is 0, and exp_elbo that of recon alone."""
    model = made()
    for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
        nn.init.zeros_(parameter)
    x = torch.rand(4, *SHAPE)
    terms = model.loss_terms(x)
    constant = 0.5 * PIXELS * torch.tensor(2 * torch.pi * 0.5).log()
    torch.testing.assert_close(terms.recon, (x - 0.5).square().sum((1, 2, 3)) + constant)
    assert torch.equal(terms.penalties["kl_decoded"], torch.zeros(4))
    torch.testing.assert_close(terms.penalties["exp_elbo"], (-2 * constant / PIXELS).exp().expand(4))
    assert "recon_decoded" not in terms.penalties
    assert model.objective(terms, {}).tolist() == pytest.approx(
        (terms.recon + terms.rate + 0.5 * PIXELS * terms.penalties["exp_elbo"]).tolist()
    )


def test_the_exponential_of_an_improbable_image_is_zero_with_a_zero_gradient() -> None:
    model = made(beta_neg=1e9)
    terms = model.loss_terms(torch.rand(4, *SHAPE))
    assert torch.equal(terms.penalties["exp_elbo"], torch.zeros(4))
    gradients = torch.autograd.grad(terms.penalties["exp_elbo"].sum(), [*model.encoder.parameters()])
    assert not any(gradient.isnan().any() for gradient in gradients)


@pytest.mark.parametrize(
    ("likelihood", "options"),
    [
        ("learned_gaussian", None),
        ("continuous_bernoulli", None),
        ("gaussian", {"sigma": 0.39}),
        ("laplace", {"scale": 0.49}),
        ("laplace", {"scale": "shared"}),
        ("log_cosh", {"scale": 0.31}),
    ],
)
def test_likelihoods_whose_recon_can_be_negative_are_refused(likelihood: str, options: dict[str, Any] | None) -> None:
    with pytest.raises(ConfigError, match="needs a likelihood whose recon is never negative"):
        made(likelihood=likelihood, likelihood_options=options)


@pytest.mark.parametrize(
    ("likelihood", "options"),
    [("gaussian", {"sigma": 0.4}), ("laplace", {"scale": 0.5}), ("log_cosh", {"scale": 0.32}), ("bernoulli", None)],
)
def test_the_recon_of_those_that_are_not_refused_is_zero_or_more(likelihood: str, options: Any) -> None:
    model = made(likelihood=likelihood, likelihood_options=options)
    outputs = torch.linspace(-8, 8, PIXELS).view(1, *SHAPE)
    assert model.likelihood.nll(torch.sigmoid(outputs), outputs).item() >= 0


class WithBatchNorm(SoftIntroVAE):
    def _make_networks(self, *settings: Any) -> None:
        super()._make_networks(*settings)
        self.encoder = nn.Sequential(nn.BatchNorm2d(1), self.encoder)


def test_what_mixes_images_or_has_another_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch norm; use group norm"):
        WithBatchNorm(image_shape=SHAPE)
    with pytest.raises(ConfigError, match=r"needs model\.bound=elbo"):
        made(bound="iwae")
    with pytest.raises(ConfigError, match=r"set model\.free_bits=null"):
        made(free_bits=0.5)
    with pytest.raises(ConfigError, match=r"set model\.prior=normal instead of mixture"):
        made(prior="mixture")
    with pytest.raises(ConfigError, match=r"model\.beta_neg must be at least 0"):
        made(beta_neg=-1.0)
