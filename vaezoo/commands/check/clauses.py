"""The clauses of the model contract. Each creates models and raises ContractError if they violate it."""

import io
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from hydra.errors import InstantiationException
from torch import Tensor

from vaezoo.commands.check.error import ContractError, demand
from vaezoo.commands.check.noise import EqualNoise
from vaezoo.config import hydra_config, reading
from vaezoo.config.choices import GRIDS, LIKELIHOODS, NETWORKS
from vaezoo.config.errors import RunError
from vaezoo.models import Autoencoder
from vaezoo.training.terms import Terms

Make = Callable[..., Autoencoder]
"""Creates a new model: make("model.network=conv", image_shape=[3, 12, 10]); images are (1, 16, 16) by default."""

SHAPES = ([1, 8, 8], [3, 20, 13], [2, 33, 64])
"""Image shapes (C, H, W) with various channels and sides, some of them odd."""
STEPS = 150
EVIDENCE = 100_000
"""Draws of the prior for an estimate of log p(x)."""


def hyper_parameters_are_plain(make: Make) -> None:
    """Constructor arguments are plain values, from which a checkpoint restores the same model."""
    network = [f"model.network={name}" for name in make().networks if name == "conv"]  # widths of it are stages
    model = make("model.widths=[16,8]", *network, "model.optimizer.lr=0.01")
    for name, value in model.hparams.items():
        try:
            reading.check_plain(value, name)
        except RunError as error:
            kind = type(value).__name__
            raise ContractError(
                f"the argument {name} is kept as a {kind}, which checkpoints cannot store: take numbers, strings,"
                " lists and mappings of them, and create objects in __init__"
            ) from error
    file = io.BytesIO()
    torch.save(dict(model.hparams), file)
    file.seek(0)
    again = type(model)(**torch.load(file, weights_only=True))
    again.load_state_dict(model.state_dict())
    demand(again.hparams["optimizer"]["lr"] == 0.01, "a model made from hparams has another model.optimizer.lr")
    x, wrong = torch.rand(2, 1, 16, 16), "a model made from hparams and the state dict reconstructs differently"
    demand(
        _close(given(again.eval(), 2).reconstruct(x), given(model.eval(), 2).reconstruct(x)),
        f"{wrong}; store everything it needs in them",
    )


def terms_are_of_images(make: Make) -> None:
    """Terms are one number for each image, and the KL one for each image and latent dimension, level or as a whole."""
    model = _made(make, 3)
    terms = _terms(model, torch.rand(5, 1, 16, 16))
    found = {"recon": terms.recon, **terms.penalties, "objective": _objective(model, terms)}
    found |= {name: term for name, term in {"rate": terms.rate, "critic": terms.critic}.items() if term is not None}
    for name, term in found.items():
        demand(
            term.shape == (5,),
            f"{name} is {list(term.shape)} for 5 images, but must be (B,): do not reduce over images",
        )
    (rows, columns), wanted = terms.kl.shape, {"dimension": model.latent_dim, "whole": 1}.get(terms.kl_by)
    right = rows == 5 and (columns == 0 or wanted in (None, columns))
    said = f"kl is {list(terms.kl.shape)} for 5 images and kl_by={terms.kl_by!r}"
    demand(right, f"{said}, but must be (B, D) by dimension, (B, 1) by whole, or (B, 0) without a posterior")


def nothing_depends_on_the_batch(make: Make) -> None:
    """Terms and objective of an image do not depend on which other images, or how many, are in its batch.

    Statistics of a batch may, if ``batch_statistics`` or ``unbiased_statistics`` names them, and the loss of a critic.
    """
    model, x = make(), torch.rand(6, 1, 16, 16)
    with EqualNoise():
        together, alone = _terms(model, x), _terms(model, x[:1])
        statistics = together.batch_statistics | together.unbiased_statistics
        names = together.penalties.keys() - statistics
        pairs = {name: (alone.penalties[name], together.penalties[name][:1]) for name in names}
        pairs |= {"recon": (alone.recon, together.recon[:1]), "kl": (alone.kl, together.kl[:1])}
        if not statistics:
            pairs["objective"] = (_objective(model, alone), _objective(model, together)[:1])
    for name, (one, other) in pairs.items():
        said = f"{_said(one)} for an image alone and {_said(other)} for the same image in a batch of 6"
        demand(_close(one, other), f"{name} depends on the batch: it is {said}; sum only over pixels and dimensions")


def recon_is_summed_over_pixels(make: Make) -> None:
    """Noise of twice the height and width has four times the recon: pixels are summed."""
    costs = []
    for side in (16, 32):
        model = make(image_shape=[1, side, side])
        costs.append(_terms(model, torch.rand(64, 1, side, side)).recon.mean().item())
    ratio = costs[1] / costs[0]
    said = f"{costs[0]:.4g} nats at 16x16 and {costs[1]:.4g} at 32x32, {ratio:.3g} times as much"
    hint = "sum over pixels and channels, without a mean"
    demand(abs(ratio - 4) < 0.4, f"recon of noise is {said} instead of about 4 times; {hint}")


def recon_is_in_nats(make: Make) -> None:
    """The recon of an untrained Bernoulli decoder is about ln 2 nats per pixel: terms are unweighted."""
    recon = _terms(make("model.likelihood=bernoulli"), torch.rand(64, 1, 16, 16).round()).recon.mean().item()
    wanted = 256 * math.log(2)
    said = f"recon of an untrained Bernoulli decoder is {recon:.4g} nats for 256 pixels instead of about {wanted:.4g}"
    untrained = 0.25  # group norm makes outputs of a spatial resnet larger; a log to base 2 would be 0.44 more
    demand(
        abs(recon / wanted - 1) < untrained, f"{said}; return -log p(x|z) unweighted, and weight it in objective only"
    )


def one_image_trains(make: Make) -> None:
    """A batch of one image gives every parameter a finite gradient."""
    model = make()
    terms = _terms(model, torch.rand(1, 1, 16, 16))
    _objective(model, terms).mean().backward()
    if terms.critic is not None:
        terms.critic.mean().backward()
    for name, parameter in model.named_parameters():
        demand(parameter.grad is not None, f"the parameter {name} gets no gradient; use it, or leave it out")
        finite = parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
        demand(finite, f"the gradient of {name} is not finite for a batch of one image")


def critics_are_apart(make: Make) -> None:
    """The objective gives critics no gradient, and the critics' loss gives nothing else one."""
    model = make()
    theirs = tuple(f"{name}." for name in model.critics)
    terms = _terms(model, torch.rand(6, 1, 16, 16))
    demand(bool(theirs) == (terms.critic is not None), "terms.critic must be given if, and only if, there are critics")
    if terms.critic is None:
        return
    for loss, of_critics in ((terms.critic, True), (_objective(model, terms), False)):
        model.zero_grad()
        loss.mean().backward(retain_graph=True)
        for name, parameter in model.named_parameters():
            leaks = name.startswith(theirs) != of_critics and parameter.grad is not None and parameter.grad.any()
            side = "the critic's loss" if of_critics else "the objective"
            demand(not leaks, f"{side} gives {name} a gradient; detach what the critic sees, and freeze the critic")


def pixels_are_in_0_to_1(make: Make) -> None:
    """``decode``, ``reconstruct`` and ``interpolate`` return pixels in [0, 1], in the shape of the images."""
    model = make(image_shape=[3, 12, 10]).eval()
    x, y = torch.rand(4, 3, 12, 10), torch.rand(4, 3, 12, 10)
    with torch.no_grad():
        decoded = given(model, 32).decode(10 * torch.randn(32, model.latent_dim))
    model = given(model, 4)
    found = {"decode": decoded, "reconstruct": model.reconstruct(x), "interpolate": model.interpolate(x, y, steps=5)}
    for name, pixels in found.items():
        shape = list(pixels.shape[-3:])
        demand(shape == [3, 12, 10], f"{name} returns images of shape {shape}, but the model's are [3, 12, 10]")
        low, high = pixels.min().item(), pixels.max().item()
        said = f"{name} returns pixels from {low:.3g} to {high:.3g}, but they must be in [0, 1]"
        demand(low >= 0 and high <= 1, f"{said}; the likelihood's mean turns outputs into pixels")


def an_interpolation_ends_at_reconstructions(make: Make) -> None:
    """A path between two images begins and ends with their reconstructions, and has no gradients."""
    model = given(make(image_shape=[3, 12, 10]).eval(), 4)
    x, y = torch.rand(4, 3, 12, 10), torch.rand(4, 3, 12, 10)
    path = model.interpolate(x, y, steps=5, method="spherical")
    demand(
        path.shape == (4, 5, 3, 12, 10), f"interpolate returns {list(path.shape)}, but must return (B, steps, C, H, W)"
    )
    ends = _close(path[:, 0], model.reconstruct(x)) and _close(path[:, -1], model.reconstruct(y))
    demand(ends, "the ends of interpolate are not the reconstructions: encode and reconstruct must be without noise")
    demand(not path.requires_grad, "interpolate keeps gradients; decorate it with torch.no_grad()")


def samples_follow_their_generator(make: Make) -> None:
    """``sample`` draws only from the generator that is passed to it; without a prior it may return None."""
    model = make().eval()
    before = torch.get_rng_state()
    one, same, other = (model.sample(3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    alone = torch.equal(before, torch.get_rng_state())
    demand(alone, "sample draws from torch's own generator; draw only from the generator that is passed to it")
    if one is None or same is None or other is None:
        lacking = model.prior() is not None or given(model, 1).posterior(torch.rand(1, 1, 16, 16)) is not None
        demand(not lacking, "sample returns None, though there is a prior or a posterior; draw from the prior")
        return
    demand(
        torch.equal(one, same), "sample returns different images for the same seed of its generator; draw only from it"
    )
    demand(
        not torch.equal(one, other), "sample returns the same images for different seeds of its generator; draw from it"
    )


@torch.no_grad()
def evidence_is_the_same_either_way(make: Make) -> None:
    """log p(x) estimated by draws of the posterior equals that by draws of the prior.

    It holds for a prior, a posterior, their densities and their draws together.
    """
    model = _made(make, 3, "model.widths=[16]", image_shape=[1, 8, 8]).eval()
    for parameter in (*model.encoder.parameters(), *model.decoder.parameters()):
        parameter.mul_(0.5)  # so that neither posterior nor likelihood is narrow, and 10,000 draws suffice
    x, model = torch.rand(2, 1, 8, 8).round(), model.given(0)
    posterior, prior = model.posterior(x), model.prior()
    demand(prior is not None or posterior is None, "a posterior needs a prior, without which it has no KL")
    if posterior is None or prior is None:
        return
    code, log_proposal = _proposed(posterior, prior, len(x))
    by_posterior = prior.log_prob(code) - log_proposal - model.nll_of_draws(x, code)
    code = prior.sample(EVIDENCE)[:, None].expand(-1, len(x), -1)
    by_prior = -torch.cat([model.nll_of_draws(x, part) for part in code.split(10_000)])
    one, other = ((each.logsumexp(0) - math.log(len(each))) for each in (by_posterior, by_prior))
    said = ", ".join(f"{a:.3f} and {b:.3f}" for a, b in zip(one.tolist(), other.tolist(), strict=True))
    hint = "look at log_prob of prior and posterior, and at their draws"
    demand(bool(((one - other).abs() < 0.05).all()), f"log p(x) by posterior and by prior is {said} nats; {hint}")


def _proposed(posterior: Any, prior: Any, images: int) -> tuple[Tensor, Tensor]:
    """Draws of the posteriors and the log density of the proposal that they are from: (K, B, D) and (K, B).

    Where posteriors score given codes, as many draws of the prior are mixed in. No importance weight is large then, not
    even where a posterior has thinner tails than the true one, such as a power of 1 + cos on a sphere.
    """
    code, log_q = posterior.draw(EVIDENCE // 10)
    if not hasattr(posterior, "log_prob"):
        return code, log_q
    demand(_close(posterior.log_prob(code), log_q), "log_prob of a posterior's draws differs from that of the draw")
    others = prior.sample(len(code))[:, None].expand(-1, images, -1)
    code, log_q = torch.cat([code, others]), torch.cat([log_q, posterior.log_prob(others)])
    return code, torch.logaddexp(log_q, prior.log_prob(code)) - math.log(2)


def noise_follows_the_seed(make: Make) -> None:
    """The same torch.manual_seed gives the same terms: noise is drawn from torch's own generator."""
    model, x, found = make(), torch.rand(6, 1, 16, 16), []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(_terms(model, x))
    same = torch.equal(found[0].recon, found[1].recon) and torch.equal(found[0].kl, found[1].kl)
    demand(same, "loss_terms returns different values for the same torch.manual_seed; draw noise only with torch")


def losses_are_in_single_precision(make: Make) -> None:
    """Terms stay in float32 under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        terms = _terms(make(), torch.rand(2, 1, 16, 16))
    for name, term in {"recon": terms.recon, "kl": terms.kl, **terms.penalties}.items():
        demand(
            term.dtype == torch.float32, f"{name} is {term.dtype} under autocast; compute it from features or outputs"
        )


def objective_is_in_words(make: Make) -> None:
    """``formula`` returns what is minimised, in words, and ``weights`` maps names to numbers."""
    model = make()
    formula, weights = model.formula(), model.weights()
    demand(
        isinstance(formula, str) and formula, f"formula returns {formula!r}; return what objective computes, in words"
    )
    numbers = all(isinstance(weight, int | float) for weight in weights.values())
    demand(numbers, f"weights returns {weights!r}; return numbers, as functions of self.global_step")


def takes_every_network_and_image(make: Make) -> None:
    """Every network and any image from 8x8 up can be used."""
    for network, image_shape in product(dict.fromkeys([*NETWORKS, *make().networks]), SHAPES):
        takes_network_and_image(make, network, image_shape)


def takes_network_and_image(make: Make, network: str, image_shape: list[int]) -> None:
    """One network on images of one shape encodes, reconstructs and has a finite objective."""
    if network not in make().networks or (network not in GRIDS and _is_spatial(make)):
        _refuses(make, f"model.network={network}", image_shape)
        return
    model = _made(make, 2, f"model.network={network}", image_shape=image_shape)
    x, case = torch.rand(2, *image_shape), f"with model.network={network} on images of {image_shape}"
    seen = given(model, 2)
    code, pixels = seen.encode(x), seen.reconstruct(x)
    demand(code.shape == (2, model.latent_dim), f"encode returns {list(code.shape)} {case}, but must return (B, D)")
    demand(pixels.shape == x.shape, f"reconstruct returns {list(pixels.shape)} {case}, but must return {list(x.shape)}")
    demand(torch.isfinite(_objective(model, _terms(model, x))).all(), f"the objective is not finite {case}")


def learns_with_every_likelihood(make: Make) -> None:
    """The objective decreases in training, with every likelihood that the model does not refuse in one sentence."""
    for likelihood in LIKELIHOODS:
        learns(make, likelihood)


def learns(make: Make, likelihood: str) -> None:
    """The objective decreases within a few training steps with one likelihood, unless the model refuses it."""
    try:
        model = make(f"model.likelihood={likelihood}", "model.widths=[32]", image_shape=[1, 8, 8])
    except InstantiationException as error:
        said = hydra_config.explain(error)
        demand(said is not None, f"model.likelihood={likelihood} must be refused by a ConfigError in one sentence")
        return
    x = (255 * torch.rand(16, 1, 8, 8)).round() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _objective(model, _terms(model, x)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    said = f"from {losses[0]:.4g} to {sum(losses[-10:]) / 10:.4g} in {STEPS} steps with model.likelihood={likelihood}"
    demand(sum(losses[-10:]) / 10 < losses[0], f"the objective does not decrease: {said}")


CLAUSES: tuple[Callable[[Make], None], ...] = (
    hyper_parameters_are_plain,
    terms_are_of_images,
    nothing_depends_on_the_batch,
    recon_is_summed_over_pixels,
    recon_is_in_nats,
    one_image_trains,
    critics_are_apart,
    pixels_are_in_0_to_1,
    an_interpolation_ends_at_reconstructions,
    samples_follow_their_generator,
    evidence_is_the_same_either_way,
    noise_follows_the_seed,
    losses_are_in_single_precision,
    objective_is_in_words,
    takes_every_network_and_image,
    learns_with_every_likelihood,
)
"""All clauses, in the order of checking."""


def _refuses(make: Make, override: str, image_shape: list[int]) -> None:
    """ContractError unless a setting that a model cannot have is refused in one sentence."""
    sentence = None
    try:
        make(override, image_shape=image_shape)
    except InstantiationException as error:
        sentence = hydra_config.explain(error)
    demand(sentence is not None, f"{override} cannot be, and must be refused by a ConfigError in one sentence")


def _is_spatial(make: Make) -> bool:
    return len(make().code_shape) > 1


def _made(make: Make, latent_dim: int, *overrides: str, image_shape: list[int] | None = None) -> Autoencoder:
    """A model with about so many latent dimensions, unless its code is spatial and follows from its network."""
    size = [f"model.{name}={value}" for name, value in make().sizes(latent_dim).items()]
    return make(*size, *overrides, image_shape=image_shape)


def labels_for(model: Autoencoder, count: int) -> Tensor:
    """A label for each of so many images, (count,)."""
    return torch.arange(count) % int(model.hparams.get("classes") or 2)


def given(model: Autoencoder, count: int) -> Autoencoder:
    """The model, given the labels of so many images if it is conditional."""
    return model.given(labels_for(model, count))


def _terms(model: Autoencoder, x: Tensor) -> Terms:
    """The terms of images, with their labels if the model wants them."""
    return model.loss_terms(*model.inputs((x, labels_for(model, len(x)))))


def _objective(model: Autoencoder, terms: Terms) -> Tensor:
    return model.objective(terms, model.weights())


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1.3e-6, atol=1e-5)


def _said(value: Tensor) -> str:
    return f"{value.sum().item():.4g}" if value.numel() else "nothing"
