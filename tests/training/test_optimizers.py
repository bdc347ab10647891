"""Critics learn beside the model in one step, as by an optimiser of their own."""

from collections.abc import Callable, Collection
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from tests.conftest import WITH_CRITICS
from tests.training.test_stepping import assert_equal_weights, fit
from vaezoo.models import VAE
from vaezoo.training.callbacks import AveragedWeights

Program = Callable[..., tuple[int, str]]

MODEL = {"lr": 0.002, "betas": [0.8, 0.99]}
TWO_CRITICS = ("model.discriminator=patches", "model.discriminator_options={width: 4, start: 2, r1: 1, lr: 0.003}")
PATCHES = ("model.network=conv", "model.widths=[8]", *TWO_CRITICS)
"""A model without a critic of its own, against one of images."""
GAMES = [
    *(pytest.param(name, (), id=name) for name in WITH_CRITICS),
    pytest.param("vae", PATCHES, id="discriminator"),
    pytest.param(WITH_CRITICS[0], TWO_CRITICS, id="two critics"),
]
"""Models with critics, and settings that give them one, or two."""
CLIPS: list[tuple[dict[str, Any], Callable[[Any], Any]]] = [
    ({}, lambda parameters: None),
    ({"gradient_clip_val": 0.1}, lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, 0.1)),
    (
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        lambda parameters: torch.nn.utils.clip_grad_value_(parameters, 0.01),
    ),
]


class Recorded(NamedTuple):
    """What a step started from: images, the random state, weights of the objective, and whom it does not train."""

    x: Tensor
    random_state: Tensor
    weights: dict[str, float]
    waiting: Collection[str]
    progress: float


class Steps(L.Callback):
    """Records each step, and the state of the model before the first."""

    def __init__(self) -> None:
        self.seen: list[Recorded] = []
        self.start: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.seen:
            self.start = deepcopy(pl_module.state_dict())
        waiting, progress = pl_module.waiting_critics(), pl_module.progress()
        self.seen.append(Recorded(batch[0], torch.get_rng_state(), pl_module.weights(), waiting, progress))


def step_by_hand(model: Any, steps: list[Recorded], clip: Callable[[Any], Any]) -> None:
    """Train with an optimiser for the model and one for each critic, each on the loss of its own player."""
    critics = {name: list(model.get_submodule(name).parameters()) for name in model.critics}
    theirs = {id(parameter) for parameters in critics.values() for parameter in parameters}
    own = [parameter for parameter in model.parameters() if id(parameter) not in theirs]
    players = {"": own, **critics}
    optimizers = {
        name: Adam(part, fused=True, **{**MODEL, **model.critics.get(name, {})}) for name, part in players.items()
    }
    for step in steps:
        torch.set_rng_state(step.random_state)
        model.progress = lambda step=step: step.progress
        terms = model.loss_terms(step.x)
        objective = model.objective(terms, step.weights)
        for name, parameters in players.items():
            loss = terms.critic if name else objective
            gradients = torch.autograd.grad(loss.mean(), parameters, retain_graph=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient)  # fused optimisers want equal strides
            clip(parameters)
        model.update_statistics()
        for name in players.keys() - set(step.waiting):
            optimizers[name].step()


@pytest.mark.parametrize("stepping", ["fast", "lightning"])
@pytest.mark.parametrize(("settings", "clip"), CLIPS, ids=["unclipped", "norm", "value"])
@pytest.mark.parametrize(
    ("variant", "more"), GAMES, ids=lambda value: value if isinstance(value, str) else str(len(value))
)
def test_one_backward_pass_with_several_groups_is_as_many_optimisers(
    variant: str,
    more: tuple[str, ...],
    settings: dict[str, Any],
    clip: Callable[[Any], Any],
    stepping: str,
    make_model: Callable[..., Any],
) -> None:
    optimizer = ["model.optimizer.lr=0.002", "+model.optimizer.betas=[0.8,0.99]"]
    model, other = (make_model(variant, *more, *optimizer) for _ in range(2))
    steps = Steps()
    trainer = fit(model, stepping, [steps], max_epochs=1, **settings)
    assert trainer.global_step == len(steps.seen) == 5
    other.load_state_dict(steps.start)
    step_by_hand(other, steps.seen, clip)
    assert_equal_weights(model, other)


def test_a_critic_waits_for_its_first_step_and_then_takes_one_of_the_learning_rate() -> None:
    options = {"width": 4, "start": 3, "lr": 0.01, "betas": [0.5, 0.999]}
    model = VAE(image_shape=(1, 16, 16), discriminator="patches", discriminator_options=options)
    steps, moves = Steps(), []
    states: list[dict[str, Tensor]] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
            states.append(deepcopy(pl_module.discriminator.critic.state_dict()))

    fit(model, "fast", [steps, Watch()], max_epochs=1)
    before = {name.removeprefix("discriminator.critic."): value for name, value in steps.start.items()}
    for state in states:
        moves.append(max((value - before[name]).abs().max().item() for name, value in state.items()))
        before = state
    assert moves[:3] == [0, 0, 0]
    assert moves[3] == pytest.approx(0.01, rel=1e-4)
    assert [step.weights["generator_weight"] for step in steps.seen] == [0, 0, 0, 0.5, 0.5]


@pytest.mark.parametrize("variant", WITH_CRITICS)
def test_averaged_weights_are_those_of_all_but_the_critics(variant: str, make_model: Callable[..., Any]) -> None:
    model, averages, seen = make_model(variant), AveragedWeights(decay=0.5), dict[str, list[Tensor]]()

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
            for name, value in pl_module.state_dict().items():
                seen.setdefault(name, []).append(value.double())

    last: dict[str, Tensor] = {}

    class Last(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
            last.update(averages._average_model.module.state_dict())  # type: ignore[union-attr]

    fit(model, "fast", [Watch(), averages, Last()], max_epochs=1)
    floating = {name: values for name, values in seen.items() if last[name].is_floating_point()}
    for name, values in floating.items():
        expected = values[0]  # the first update copies
        for value in values[1:]:
            expected = 0.5 * expected + 0.5 * value
        is_critics = name.startswith(tuple(f"{critic}." for critic in model.critics))
        torch.testing.assert_close(last[name].double(), values[-1] if is_critics else expected, atol=1e-5, rtol=1e-5)
    assert any(name.startswith(tuple(model.critics)) for name in floating)


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
