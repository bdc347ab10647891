"""pythae's VAE and its own trainer, with the load's networks."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from vaezoo.nn.networks import make_networks
from yardstick.bare import LEARNING_RATE, now
from yardstick.readings import imported_bytes, read_job, write_result


class Encoder(BaseEncoder):
    """The load's encoder in pythae's clothes."""

    def __init__(self, network: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim = network, latent_dim

    def forward(self, x: Tensor) -> ModelOutput:
        mean, logvar = self.network(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=logvar)


class Decoder(BaseDecoder):
    """The load's decoder in pythae's clothes, with the sigmoid that its cross-entropy wants."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, code: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(code)))


class Stopwatch(TrainingCallback):
    """Seconds of training and of evaluation, after the first epoch."""

    def __init__(self) -> None:
        self.training_seconds = self.validation_seconds = 0.0
        self._since: float | None = None

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **about: Any) -> None:
        if about["epoch"] == 2:
            self._since = now()

    def on_eval_step_begin(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        self.training_seconds += self._lap()

    def on_eval_step_end(self, training_config: BaseTrainerConfig, **_: Any) -> None:  # of each batch
        self.validation_seconds += self._lap()

    def on_log(self, training_config: BaseTrainerConfig, logs: Any, **_: Any) -> None:  # the end of an epoch
        self.training_seconds += self._lap()

    def _lap(self) -> float:
        if self._since is None:
            return 0.0
        before, self._since = self._since, time.perf_counter()
        return self._since - before


def main() -> None:
    imported, job = imported_bytes(), read_job()
    shape, latent_dim = tuple(job["image_shape"]), job["latent_dim"]
    encoder, decoder = make_networks(job["network"], shape, latent_dim, 2 * latent_dim, job["widths"])
    config = VAEConfig(input_dim=shape, latent_dim=latent_dim, reconstruction_loss="bce")
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = BaseTrainer(
            VAE(config, Encoder(encoder, latent_dim), Decoder(decoder)),
            train_dataset=read(job, "train"),
            eval_dataset=read(job, "val"),
            training_config=BaseTrainerConfig(
                output_dir=scratch,
                num_epochs=1 + job["epochs"],
                per_device_train_batch_size=job["batch_size"],
                per_device_eval_batch_size=job["batch_size"],
                learning_rate=LEARNING_RATE,
                no_cuda=job["device"] == "cpu",
            ),
            callbacks=[stopwatch],
        )
        trainer.train()
    write_result(
        job,
        images=job["images"] * job["epochs"],
        seconds=stopwatch.training_seconds,
        validation_seconds=stopwatch.validation_seconds,
        imported=imported,
    )


def read(job: dict[str, Any], split: str) -> BaseDataset:
    """The images as pythae wants them: floats in [0, 1]."""
    pixels = torch.load(Path(job["folder"], f"{split}.pt"))
    return BaseDataset(pixels.float() / 255, torch.zeros(len(pixels)))


if __name__ == "__main__":
    main()
