"""pythae's VAE and its own trainer, with the load's networks."""

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

from yardstick.loads import Job
from yardstick.measurement import LEARNING_RATE, Laps, measure, networks


class Encoder(BaseEncoder):
    """The load's encoder with pythae's interface."""

    def __init__(self, network: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim = network, latent_dim

    def forward(self, x: Tensor) -> ModelOutput:
        mean, logvar = self.network(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=logvar)


class Decoder(BaseDecoder):
    """The load's decoder with pythae's interface, and the sigmoid that its cross-entropy wants."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, code: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(code)))


class Stopwatch(TrainingCallback):
    """Seconds of training and of validation after the first epoch, which is warm-up."""

    def __init__(self) -> None:
        self.laps = Laps()

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **about: Any) -> None:
        if about["epoch"] == 2:
            self.laps.start()

    def on_eval_step_begin(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        self.laps.end("seconds")

    def on_eval_step_end(self, training_config: BaseTrainerConfig, **_: Any) -> None:  # of each batch
        self.laps.end("validation_seconds")

    def on_log(self, training_config: BaseTrainerConfig, logs: Any, **_: Any) -> None:  # the end of an epoch
        self.laps.end("seconds")


def train(job: Job) -> dict[str, float]:
    encoder, decoder = networks(job)
    latent_dim, stopwatch = job["latent_dim"], Stopwatch()
    config = VAEConfig(input_dim=tuple(job["image_shape"]), latent_dim=latent_dim, reconstruction_loss="bce")
    trainer = BaseTrainer(
        VAE(config, Encoder(encoder, latent_dim), Decoder(decoder)),
        train_dataset=dataset(job, "train"),
        eval_dataset=dataset(job, "val"),
        training_config=BaseTrainerConfig(
            output_dir="pythae",
            num_epochs=1 + job["epochs"],
            per_device_train_batch_size=job["batch_size"],
            per_device_eval_batch_size=job["batch_size"],
            learning_rate=LEARNING_RATE,
            no_cuda=job["device"] == "cpu",
        ),
        callbacks=[stopwatch],
    )
    trainer.train()
    return {"images": job["images"] * job["epochs"], **stopwatch.laps.seconds}


def dataset(job: Job, split: str) -> BaseDataset:
    """The images as pythae wants them: floats in [0, 1]."""
    pixels = torch.load(Path(job["folder"], f"{split}.pt"))
    return BaseDataset(pixels.float() / 255, torch.zeros(len(pixels)))


if __name__ == "__main__":
    measure(train)
