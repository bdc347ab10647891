"""Levels of spatial codes: sizes, what an untrained one costs, and that decoder and densities see the same code."""

from typing import Any

import pytest
import torch

from vaezoo.commands.check import clauses
from vaezoo.config.errors import ConfigError
from vaezoo.distributed.batch_shares import even_share, within_share
from vaezoo.models import TopDownVAE

X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def made(**settings: Any) -> TopDownVAE:
    torch.manual_seed(2)
    defaults = {"image_shape": (1, 8, 8), "widths": [8, 8, 8], "level_channels": [3, 2, 1], "blocks": 1}
    return TopDownVAE(**{**defaults, **settings})


def stirred(model: TopDownVAE) -> TopDownVAE:
    """The model with posteriors that are no longer those at the start."""
    for parameter in model.posterior_model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_the_defaults_have_levels_at_4_8_and_16_pixels() -> None:
    model = TopDownVAE(image_shape=(1, 28, 28))
    assert model.posterior_model.shapes == [(16, 4, 4)] * 2 + [(8, 8, 8)] * 2 + [(4, 16, 16)] * 2
    assert model.latent_dim == sum(model.posterior_model.sizes) == 3584
    assert 600_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000


@pytest.mark.parametrize("image_shape", clauses.SHAPES)
@torch.no_grad()
def test_any_image_from_8x8_up_is_taken(image_shape: list[int]) -> None:
    model, x = made(image_shape=image_shape), torch.rand(2, *image_shape)
    assert model.reconstruct(x).shape == x.shape
    samples = model.sample(2)
    assert samples is not None
    assert samples.shape == x.shape
    assert model.losses((x,), model.weights())[0].isfinite()


def test_an_untrained_posterior_costs_nothing_below_the_top() -> None:
    kl = made().loss_terms(X).kl
    assert (kl[:, 0] > 0).all()
    assert torch.equal(kl[:, 1:], torch.zeros(3, 2))


@torch.no_grad()
def test_the_levels_add_up_to_log_q_minus_log_p() -> None:
    model = stirred(made()).double()
    posterior, prior = model.posterior(X.double()), model.prior()
    draw = posterior.draw(4000)
    torch.testing.assert_close(draw.log_prob, posterior.log_prob(draw.code))
    rate = draw.log_prob - prior.log_prob(draw.code)
    assert ((rate.mean(0) - posterior.kl(prior, draw).sum(1)).abs() < 4 * rate.std(0) / len(rate) ** 0.5).all()


@torch.no_grad()
def test_the_decoder_sees_every_level() -> None:
    model = stirred(made())
    code = model.encode(X)
    for part in model.posterior_model.split(torch.arange(model.latent_dim)):
        moved = code.clone()
        moved[:, part] += 1
        assert not torch.allclose(model.decode(moved), model.decode(code))


@torch.no_grad()
def test_levels_do_not_depend_on_those_below() -> None:
    """Changing a level changes the distributions of lower ones alone."""
    model = stirred(made())
    levels = model.posterior_model
    code = torch.randn(1, 3, model.latent_dim)
    sizes = levels.sizes
    moved = code.clone()
    moved[..., sizes[0] : sizes[0] + sizes[1]] += 1
    before, after = (levels.scored(each, model.features(X)) for each in (code, moved))
    same = [torch.allclose(one.mean, other.mean) for one, other in zip(before.priors, after.priors, strict=True)]
    assert same == [True, True, False]
    of_q = [
        torch.allclose(one.mean, other.mean) for one, other in zip(before.posteriors, after.posteriors, strict=True)
    ]
    assert of_q == [True, True, False]


def test_shares_of_a_batch_draw_their_rows_of_the_whole() -> None:
    model = stirred(made())
    torch.manual_seed(6)
    whole = model.loss_terms(X)
    for rank in range(2):
        share = even_share(3, rank, 2)
        torch.manual_seed(6)
        with within_share(share):
            own = model.loss_terms(share.rows(X, share.size))
        torch.testing.assert_close(own.kl, share.rows(whole.kl, share.size))


def test_training_starts_with_a_warm_up_and_free_bits() -> None:
    model = made()
    assert model.weights() == {"beta": 0}
    assert model.formula() == "recon + sum max(0.5, mean kl) (beta warms up over 2,000 steps)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "conv"}, r"model\.network must be one of top_down, got 'conv'"),
        ({"latent_dim": 9}, r"model\.latent_dim and model\.code_channels follow from"),
        ({"widths": [8, 8, 8, 8]}, r"model\.widths must be 1 to 3 numbers, one for each resolution, got 4"),
        ({"level_channels": [3, 0, 1]}, r"each of model\.level_channels must be at least 1, got 0"),
        ({"blocks": 0}, r"model\.blocks must be at least 1, got 0"),
        (
            {"prior": "vamp"},
            r"TopDownVAE has .* of its own; set model\.prior=normal instead of vamp",
        ),
        (
            {"bound": "iwae", "free_bits": None},
            r"TopDownVAE needs model\.bound=elbo .* because its KL is weighed unless model\.beta=1",
        ),
        ({"image_shape": (1, 7, 8)}, "images must be at least 8x8 pixels, got 7x8"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)
