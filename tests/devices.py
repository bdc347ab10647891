"""A program that trains cases one after another on two devices: python -m tests.devices FOLDER CASE...

Beside what a run keeps, it keeps the gradients of the first step: FOLDER/CASE/gradients.pt.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from vaezoo.commands.train import train
from vaezoo.config import hydra_config
from vaezoo.models import VAE
from vaezoo.training import fsdp
from vaezoo.training.module import Loop
from vaezoo.training.terms import Terms, Weights

SMALL = [
    "model.widths=[16]",
    "model.likelihood=bernoulli",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "callbacks=none",
    "evaluation=none",
    "stepping=lightning",
    "data.batch_size=8",
    "data.limit=35",  # the last batch of an epoch has 3 images
    "data.val_size=9",
    "data.test_size=5",
    "data.eval_batch_size=4",  # the last batch of an evaluation has 3 images, or 2
]

DYNAMIC = "data.binarize=dynamic"
ONE_LEFT = ["data.limit=33", "data.eval_batch_size=2", DYNAMIC]  # one image for two processes, everywhere

DISCRETE = ["model=vqvae", "model.network=conv", "model.widths=[8]"]
VQVAE = [*DISCRETE, "+model.quantizer_options.size=8"]


class Labelled(VAE):
    """Pulls the first dimension of the codes towards the labels."""

    wants_labels = True

    def loss_terms(self, x: Tensor, labels: Tensor) -> Terms:  # type: ignore[override]
        terms = super().loss_terms(x)
        assert terms.posterior is not None
        terms.penalties["distance"] = (terms.posterior.mean[:, 0] - labels).square()
        return terms

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        return super().objective(terms, weights) + terms.penalties["distance"]


CASES: dict[str, list[str]] = {
    "ae": ["model=ae"],
    "beta_vae": ["model=beta_vae", "model.beta_schedule=linear", "model.schedule_steps=7"],
    "conv_vae": ["model=conv_vae", "model.widths=null", DYNAMIC],
    "vae": ["model=vae", DYNAMIC],
    "one left": ["model=vae", *ONE_LEFT],
    "clipped": ["model=vae", "trainer.gradient_clip_val=5", "model.optimizer.name=SGD", *ONE_LEFT],
    "accumulated": ["model=vae", "trainer.accumulate_grad_batches=2", "callbacks=ema"],
    "scheduled": ["model=vae", "model.scheduler={name: CosineAnnealingLR, T_max: total_steps}"],
    "shared sigma": ["model=vae", "model.likelihood=learned_gaussian"],
    "optimal sigma": ["model=vae", "model.likelihood=learned_gaussian", "model.likelihood_options={sigma: optimal}"],
    "bf16": ["model=vae", "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=50"],
    "iwae": ["model=iwae", DYNAMIC],
    "vamp_vae": ["model=vamp_vae", "model.prior_options.components=7", DYNAMIC],
    "factor_vae": ["model=factor_vae", "model.penalty_options.widths=[16]", *ONE_LEFT],
    "total correlation": ["model=vae", "model.penalty=total_correlation", *ONE_LEFT],
    "covariance": ["model=dip_vae", *ONE_LEFT],
    "discrepancy": ["model=wae", *ONE_LEFT],
    "sliced": ["model=sliced_wae", *ONE_LEFT],
    "adversarial_ae": ["model=adversarial_ae", "model.penalty_options.widths=[16]", *ONE_LEFT],
    "vqvae": [*VQVAE, *ONE_LEFT],
    "vqgan": [*VQVAE, "model=vqgan", "model.discriminator_options={width: 4, start: 0}", *ONE_LEFT],
    "soft_intro_vae": ["model=soft_intro_vae", "model.beta_neg=2", "model.gamma=0.5", *ONE_LEFT],
    "discriminator": [
        "model=factor_vae",
        "model.penalty_options.widths=[16]",
        "model.discriminator=patches",
        "model.discriminator_options={width: 4, start: 2, r1: 1}",
        "trainer.gradient_clip_val=5",
        *ONE_LEFT,
    ],
    "vqvae accumulated": [*VQVAE, "trainer.accumulate_grad_batches=2"],
    "rvq": [*DISCRETE, "model.quantizer=rvq", "model.quantizer_options={size: 8, levels: 3, dropout: true}", *ONE_LEFT],
    "vqvae2": [*VQVAE, "model=vqvae2", "model.grid_width=8", *ONE_LEFT, "model.optimizer.name=SGD"],
    "lfq": [*DISCRETE, "model.quantizer=lfq", "model.quantizer_options={bits: 3}", *ONE_LEFT],
    "gumbel": [*VQVAE, "model.quantizer=gumbel", *ONE_LEFT],
    "labels": ["model=vae", "model._target_=tests.devices.Labelled"],
    "conditional_vae": ["model=conditional_vae", "model.prior=conditional", *ONE_LEFT],
}
"""Every variant, sizes that do not divide, and what takes part in a step."""

SHARDED: dict[str, list[str]] = {
    # SGD, as Adam makes steps of rounding errors: a bias before a norm has no gradient
    "sharded": ["model=vae", "model.network=resnet", "model.widths=[8]", "model.optimizer.name=SGD", *ONE_LEFT],
    "sharded and clipped": [
        "model=vae",
        "callbacks=default",
        "trainer.gradient_clip_val=5",
        "+model.optimizer.weight_decay=0.1",
    ],
    "sharded with pseudo-inputs": ["model=vamp_vae", "model.prior_options.components=7"],
    "sharded with labels": ["model=conditional_vae", "model.prior=conditional", "model.optimizer.name=SGD", *ONE_LEFT],
    "sharded with a codebook": [*VQVAE, *ONE_LEFT, "model.optimizer.name=SGD"],
    "sharded with a shared sigma": [
        "model=vae",
        "model.likelihood=learned_gaussian",
        "model.optimizer.name=SGD",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=5",
    ],
}
"""Cases for ``trainer=fsdp2``."""


_usual: Any = Loop.on_before_optimizer_step


def keep_first_gradients(self: Any, optimizer: Any) -> None:
    """Stands in for a model's ``on_before_optimizer_step``, which it calls."""
    _usual(self, optimizer)
    path = Path(self.trainer.default_root_dir, "gradients.pt")
    if self.global_step == 0:
        trained = {name: parameter.grad for name, parameter in self.named_parameters() if parameter.grad is not None}
        gradients = {name: fsdp.whole(gradient) for name, gradient in trained.items()}
        if self.trainer.is_global_zero:
            torch.save(gradients, path)


def run(case: str, folder: Path, *more: str) -> dict[str, Any]:
    """Train a case in ``folder``: its summary."""
    overrides = [*SMALL, *{**CASES, **SHARDED}[case], f"run_dir='{folder}'", *more]
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides)
    return train(cfg, folder)


def gradients(folder: Path) -> dict[str, Tensor]:
    """What ``keep_first_gradients`` kept."""
    found: dict[str, Tensor] = torch.load(folder / "gradients.pt", weights_only=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    Loop.on_before_optimizer_step = keep_first_gradients  # type: ignore[method-assign]
    for case in sys.argv[2:]:
        run(case, Path(sys.argv[1]) / case, f"trainer={'ddp' if case in CASES else 'fsdp2'}", "trainer.devices=2")
