"""Critics learn beside the model in one step, as by an optimiser of their own."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.precision import DoublePrecision
from torch import Tensor
from torch.optim import Adam

from tests.training.test_stepping import assert_equal_weights, fit
from vaezoo.models import FactorVAE

Program = Callable[..., tuple[int, str]]

CRITIC = {"weight": 10.0, "widths": [8], "lr": 0.01, "betas": [0.5, 0.9]}
MODEL = {"lr": 0.002, "betas": [0.8, 0.99]}


def factor_vae() -> FactorVAE:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"optimizer": {"name": "Adam", **MODEL}, "penalty_options": CRITIC}
    return FactorVAE(image_shape=(1, 16, 16), latent_dim=4, widths=[16], **settings)


class Batches(L.Callback):
    """Keeps the images of each batch, and the random state from which its noise is drawn."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((batch[0], torch.get_rng_state()))


def step_by_hand(model: FactorVAE, batches: list[tuple[Tensor, Tensor]], clip: Callable[[Any], Any]) -> None:
    """Train with two optimisers, each on the loss of its own player."""
    (critic,) = (model.get_submodule(name) for name in model.critics)
    theirs = list(critic.parameters())
    own = [parameter for name, parameter in model.named_parameters() if not name.startswith("penalty.critic.")]
    players = (own, Adam(own, fused=True, **MODEL)), (theirs, Adam(theirs, fused=True, **model.critic_settings()))
    for x, state in batches:
        torch.set_rng_state(state)
        terms = model.loss_terms(x)
        assert terms.critic is not None
        losses = (terms.recon + terms.rate + 10 * terms.penalties["tc"], terms.critic)
        for (parameters, _), loss in zip(players, losses, strict=True):
            gradients = torch.autograd.grad(loss.mean(), parameters, retain_graph=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            clip(parameters)
        for _, optimizer in players:
            optimizer.step()


@pytest.mark.parametrize("stepping", ["fast", "lightning"])
@pytest.mark.parametrize(
    ("settings", "clip"),
    [
        ({}, lambda parameters: None),
        ({"gradient_clip_val": 0.1}, lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 0.1)),
        (
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
            lambda parameters: torch.nn.utils.clip_grad_value_(parameters, 0.01),
        ),
    ],
    ids=["unclipped", "norm", "value"],
)
def test_one_backward_pass_with_two_groups_is_two_optimisers(
    stepping: str, settings: dict[str, Any], clip: Callable[[Any], Any]
) -> None:
    model, batches = factor_vae(), Batches()
    other = deepcopy(model).double()
    trainer = fit(model, stepping, [batches], max_epochs=1, precision="64-true", **settings)
    assert trainer.global_step == len(batches.seen) == 5
    with DoublePrecision().train_step_context():
        step_by_hand(other, batches.seen, clip)
    assert_equal_weights(model, other)


@pytest.mark.parametrize(
    ("optimizer", "sentence"),
    [
        ("SGD", "the critic's optimiser, SGD.betas is not a setting here"),
        ("LBFGS", "the critic's optimiser, LBFGS.betas is not a setting here"),
    ],
)
def test_an_optimiser_without_the_settings_of_the_critic_is_refused(
    optimizer: str, sentence: str, program: Program, tmp_path: Path
) -> None:
    settings = ["model=factor_vae", f"model.optimizer.name={optimizer}", f"run_dir={tmp_path / 'run'}"]
    code, printed = program("train", *settings)
    assert code == 1
    assert printed.startswith("error: ")
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()
