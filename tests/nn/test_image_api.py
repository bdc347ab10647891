"""The image API says in one sentence what is wrong with what it is given, and takes a single image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaezoo import AE, BetaVAE
from vaezoo.commands.check.clauses import given, labels_for
from vaezoo.config.errors import ImageError, VaezooError
from vaezoo.models import Autoencoder
from vaezoo.nn import image_api

Make = Callable[..., Autoencoder]
OF_IMAGES = ("encode", "posterior", "reconstruct")
GOOD = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
BAD: list[tuple[Any, str]] = [
    (GOOD.numpy(), "as a torch.Tensor, got numpy.ndarray; write torch.from_numpy(array)"),
    ([[0.0]], "as a torch.Tensor, got list"),
    ((GOOD * 255).byte(), "as floats in [0, 1], got torch.uint8; write images.float() / 255"),
    (GOOD > 0.5, "as floats in [0, 1], got torch.bool; write images.float()"),
    (GOOD.movedim(1, 3), "(B, 3, 8, 12), got (2, 8, 12, 3), whose channels come last; write images.movedim(-1, -3)"),
    (GOOD[0].movedim(0, 2), "got (8, 12, 3), whose channels come last; write images.movedim(-1, -3)"),
    (torch.rand(2, 3, 9, 9), "of shape (3, 8, 12) or (B, 3, 8, 12), got (2, 3, 9, 9); resize them to 8x12"),
    (torch.rand(2, 1, 8, 12), "got (2, 1, 8, 12)"),
    (torch.rand(5, 2, 3, 8, 12), "got (5, 2, 3, 8, 12)"),
    (255 * GOOD, "; divide by 255"),
    (2 * GOOD - 1, "in [0, 1], got values from -"),
    (GOOD.where(GOOD > 0.1, torch.nan), "got some that are not finite"),
    (GOOD.where(GOOD > 0.1, torch.inf), "got some that are not finite"),
]


@pytest.fixture
def model() -> BetaVAE:
    return BetaVAE(image_shape=(3, 8, 12), latent_dim=4, widths=[8]).eval()


def test_the_error_is_vaezoos_and_a_value_error() -> None:
    assert issubclass(ImageError, VaezooError)
    assert issubclass(ImageError, ValueError)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize(("x", "said"), BAD, ids=[said for _, said in BAD])
def test_what_are_no_images_of_the_model_is_one_sentence(name: str, x: Any, said: str, model: BetaVAE) -> None:
    with pytest.raises(ImageError) as raised:
        getattr(model, name)(x)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"{name} needs ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(8, 8), (5, 8, 8)])
def test_grey_images_without_channels_are_told_of_the_axis(shape: tuple[int, ...]) -> None:
    model = AE(image_shape=(1, 8, 8), latent_dim=2, widths=[8])
    with pytest.raises(ImageError, match=r"which have no channels; write images\.unsqueeze\(-3\)"):
        model.encode(torch.rand(shape))


def test_what_are_no_codes_of_the_model_is_one_sentence(model: BetaVAE) -> None:
    wrong: list[tuple[Any, str]] = [
        (np.zeros((2, 4)), "decode needs codes as a torch.Tensor, got numpy.ndarray; write torch.from_numpy(array)"),
        (torch.zeros(2, 4, dtype=torch.long), "decode needs codes as floats, got torch.int64; write code.float()"),
        (torch.zeros(2, 5), r"decode needs codes of shape (4,) or (B, 4), got (2, 5)"),
        (torch.zeros(2, 3, 4), r"got (2, 3, 4)"),
    ]
    for code, said in wrong:
        with pytest.raises(ImageError) as raised:
            model.decode(code)
        assert said in str(raised.value)


def test_another_device_is_named(model: BetaVAE) -> None:
    with pytest.raises(ImageError, match=r"needs images on cpu, where the model is, got meta; write \.to\(model"):
        model.encode(GOOD.to("meta"))


def test_ends_and_counts_are_checked(model: BetaVAE) -> None:
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.interpolate(GOOD, GOOD[:1]), "interpolate needs as many images at its end as at its start, got"),
        (lambda: model.interpolate(GOOD, (255 * GOOD).byte()), "interpolate needs images as floats"),
        (lambda: model.interpolate(GOOD, GOOD, steps=1), "steps as a whole number from 2 up, got 1"),
        (lambda: model.interpolate(GOOD, GOOD, method="cubic"), "the method linear or spherical, got 'cubic'"),
        (lambda: model.sample(0), "sample needs count as a whole number from 1 up, got 0"),
        (lambda: model.sample(2.0), "sample needs count as a whole number from 1 up, got 2.0"),  # type: ignore[arg-type]
        (lambda: model.sample(2, 7), "sample needs a torch.Generator, got 7; write torch.Generator()"),  # type: ignore[arg-type]
    ]
    for call, said in wrong:
        with pytest.raises(ImageError) as raised:
            call()
        assert said in str(raised.value)


def test_a_single_image_gives_results_without_a_batch(variant: str, make_model: Make) -> None:
    model = given(make_model(variant, image_shape=[3, 8, 12]).eval(), 1)
    one, batch = GOOD[0], GOOD[:1]
    assert torch.equal(model.encode(one), model.encode(batch)[0])
    assert torch.equal(model.decode(model.encode(one)), model.decode(model.encode(batch))[0])
    assert torch.equal(model.reconstruct(one), model.reconstruct(batch)[0])
    assert torch.equal(model.interpolate(one, GOOD[1], steps=3), model.interpolate(batch, GOOD[1:], steps=3)[0])
    posterior, of_batch = model.posterior(one), model.posterior(batch)
    if posterior is not None and of_batch is not None:
        assert type(posterior) is type(of_batch)
        assert torch.equal(posterior.mean.flatten(), of_batch.mean[0])  # one of networks keeps the batch's dimension
        assert posterior.draw(2).code.flatten(1).shape == (2, model.latent_dim)


def test_rounding_an_empty_batch_and_other_floats_pass(model: BetaVAE) -> None:
    for x in (GOOD.double(), GOOD.half(), GOOD.clone().fill_(1 + 1e-6), GOOD[:0], GOOD.clone().fill_(-1e-6)):
        assert model.encode(x).shape == (len(x), 4)


def test_encode_and_decode_keep_gradients_and_the_others_do_not(model: BetaVAE) -> None:
    x = GOOD.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.decode(model.encode(x)).sum(), x)
    assert gradient.abs().sum() > 0
    for found in (model.reconstruct(x), model.interpolate(x, x), model.sample(2)):
        assert not found.requires_grad
    for name in ("encode", "decode"):
        assert "Differentiable" in str(getattr(Autoencoder, name).__doc__)


class Counting(BetaVAE):
    """Counts how often pixels are looked at, and has methods of its own that are checked too."""

    def encode(self, x: Tensor) -> Tensor:
        return 2 * super().encode(x)


def test_a_subclass_is_checked_once_for_each_call_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(image_api, "_check_pixels", lambda x, name, of_table: looked.append(name))
    model = Counting(image_shape=(3, 8, 12), latent_dim=4, widths=[8])
    assert model.encode(GOOD[0]).shape == (4,)
    model.reconstruct(GOOD)
    assert looked == ["encode", "reconstruct"]
    with pytest.raises(ImageError, match="encode needs images as floats"):
        model.encode(GOOD.byte())


def test_training_and_evaluation_steps_look_at_no_pixels(variant: str, make_model: Make) -> None:
    beyond = GOOD + 0.5  # which a loss can be taken of with a Gaussian
    model = make_model(variant, "model.likelihood=gaussian", image_shape=[3, 8, 12])
    labels = labels_for(model, len(beyond))
    assert torch.isfinite(model.training_step((beyond, labels), 0))
    model.validation_step((beyond, labels), 0)
    with pytest.raises(ImageError):
        given(model, len(beyond)).encode(beyond)


def test_a_check_that_fails_leaves_checks_on(model: BetaVAE) -> None:
    for _ in range(2):
        with pytest.raises(ImageError):
            model.reconstruct(GOOD.byte())


@pytest.mark.filterwarnings("ignore")
def test_compiled_and_exported_programs_hold_no_checks(model: BetaVAE) -> None:
    with torch.no_grad():
        wanted = model.encode(GOOD)
        compiled = torch.compile(model.encode, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(GOOD), wanted)
    for strict in (False, True):
        program = torch.export.export(Encoding(model), (GOOD,), strict=strict).module()
        torch.testing.assert_close(program(GOOD), wanted)


class Encoding(torch.nn.Module):
    """A model's encoder as a module."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model.encode(x)
