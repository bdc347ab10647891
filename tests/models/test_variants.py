"""What is true of every variant of the zoo, whatever it minimises."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import MODELS, in_turn
from vaezoo.commands.check import CLAUSES, Make, clauses
from vaezoo.config.choices import LIKELIHOODS, NETWORKS, QUANTIZERS
from vaezoo.models import Autoencoder
from vaezoo.training.running_means import RunningMeans

SPREAD = (clauses.takes_every_network_and_image, clauses.learns_with_every_likelihood)
"""Clauses that are several tests each."""
THIRD = [
    pytest.param(name, clause, marks=pytest.mark.nightly if (at + place) % 3 else (), id=f"{name}-{clause.__name__}")
    for at, name in enumerate(MODELS)
    for place, clause in enumerate(clause for clause in CLAUSES if clause not in SPREAD)
]
"""Every variant with every third clause, the other pairs nightly."""


def inputs(model: Autoencoder, x: Tensor) -> tuple[Tensor, ...]:
    """Images, with their labels if the model wants them."""
    return model.inputs((x, clauses.labels_for(model, len(x))))


@pytest.mark.parametrize(("variant", "clause"), THIRD)
def test_every_variant_keeps_to_the_contract(clause: Callable[[Make], None], variant: str, make_model: Make) -> None:
    clause(partial(make_model, variant))


@pytest.mark.parametrize(("variant", "network", "image_shape"), in_turn(NETWORKS, clauses.SHAPES))
def test_every_model_takes_every_network_and_image(
    variant: str, network: str, image_shape: list[int], make_model: Make
) -> None:
    clauses.takes_network_and_image(partial(make_model, variant), network, image_shape)


@pytest.mark.parametrize(("variant", "likelihood"), in_turn(LIKELIHOODS))
def test_every_model_takes_every_likelihood_and_learns(variant: str, likelihood: str, make_model: Make) -> None:
    clauses.learns(partial(make_model, variant), likelihood)


def test_a_model_has_samples_if_it_has_a_prior_which_a_posterior_needs(variant: str, make_model: Make) -> None:
    model = make_model(variant).eval()
    assert (model.sample(3) is None) == (model.prior() is None)
    assert model.prior() is not None or clauses.given(model, 1).posterior(torch.rand(1, 1, 16, 16)) is None


def test_kl_is_the_same_quantity_whatever_weighs_it(variant: str, make_model: Make) -> None:
    model = make_model(variant).eval()  # without corruption
    x = torch.rand(4, 1, 16, 16)
    for of_label in (part for name, part in model.named_parameters() if name.endswith(".of_label.weight")):
        torch.nn.init.zeros_(of_label)  # so that the label is ignored
    terms = model.loss_terms(*inputs(model, x))
    if terms.has_posterior and terms.kl_by == "dimension":
        network = [
            f"model.{name}={model.hparams[name] or 'null'}" for name in ("network", "latent_dim", "code_channels")
        ]
        vae = make_model("vae", *network, f"model.likelihood={model.hparams['likelihood']}")
        own = vae.state_dict().keys()
        vae.load_state_dict({name: weight for name, weight in model.state_dict().items() if name in own})
        torch.testing.assert_close(terms.kl, vae.loss_terms(x).kl)


def test_evaluation_encodes_each_image_once(variant: str, make_model: Make) -> None:
    """The encoder may have images of its own besides, such as pseudo-inputs, and corrupted or decoded ones."""
    model, encoded = make_model(variant).eval(), []
    decoded: list[Tensor] = []
    model.decoder.register_forward_hook(lambda *parts: decoded.append(model.likelihood.mean(parts[2])))
    own = {part.shape[0] for name, part in model.named_parameters() if part.shape[1:] == (1, 16, 16)}

    def note(_: Any, given: tuple[Tensor, ...], __: Any) -> None:
        if not any(torch.equal(given[0], part) for images in decoded for part in images.split(len(given[0]))):
            encoded.append(len(given[0]))

    model.encoder.register_forward_hook(note)
    if own:
        model._evaluate(inputs(model, torch.rand(9, 1, 16, 16)), RunningMeans())
        assert encoded == [9, *own]
        return
    model._evaluate(inputs(model, torch.rand(7, 1, 16, 16)), RunningMeans())
    assert encoded == [7] * (1 if model.corruption is None else 2)


def test_terms_without_the_code_evaluate_to_the_same_numbers(
    variant: str, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(variant).eval()
    batch = inputs(model, torch.rand(7, 1, 16, 16))
    given, without = RunningMeans(), RunningMeans()
    torch.manual_seed(1)
    model._evaluate(batch, given)
    terms = model.loss_terms
    monkeypatch.setattr(model, "loss_terms", lambda *batch: dataclasses.replace(terms(*batch), code=None))
    torch.manual_seed(1)
    model._evaluate(batch, without)
    assert given.totals.keys() == without.totals.keys()
    for name, total in given.totals.items():
        assert torch.equal(total, without.totals[name]), name


OTHERS = [("vqvae", f"model.quantizer={name}", "model.quantizer_options=null") for name in QUANTIZERS[1:]]
"""Models with the quantisers that no yaml has."""


@pytest.mark.parametrize("words", [*((name,) for name in MODELS), *OTHERS], ids=" ".join)
def test_a_step_can_be_taken_in_double_precision(words: tuple[str, ...], make_model: Make) -> None:
    """With ``trainer.precision=64-true``: parts that compute in float32 take their parameters with them."""
    model = make_model(*words).double()
    loss, values = model.losses(inputs(model, torch.rand(5, 1, 16, 16, dtype=torch.float64)), model.weights())
    loss.backward()
    assert all(value.isfinite().all() for value in values.values())
    assert values["recon"].dtype == torch.float64
    assert all(part.grad is not None and part.grad.isfinite().all() for part in model.decoder.parameters())


def test_codebooks_in_half_precision_are_refused(program: Any, tmp_path: Path) -> None:
    code, printed = program(
        "train", f"run_dir={tmp_path}", "model=vqvae", "trainer.precision=bf16-true", "data.limit=600", "callbacks=none"
    )
    assert code == 1
    assert "has too few bits to train a quantiser; set trainer.precision=bf16-mixed" in printed
