"""Averages of weights over training."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from vaezoo.training.lightning_internals import averaged_model


class AveragedWeights(EMAWeightAveraging):
    """Exponential moving averages of weights, and of buffers such as a codebook, for use instead of the last ones.

    Critics are not averaged: they are trained against the model as it is, and the average is not used to train it.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *arguments)
        average: Any = averaged_model(self)
        for name in getattr(pl_module, "critics", ()):
            ours, theirs = (model.get_submodule(name).parameters() for model in (average, pl_module))
            with torch.no_grad():
                for mine, current in zip(ours, theirs, strict=True):
                    mine.copy_(current)
