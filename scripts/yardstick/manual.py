"""A VQGAN as Lightning documents it for adversaries: manual optimisation with two optimisers, the same networks."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from yardstick.callbacks import Stopwatch
from yardstick.loads import Job
from yardstick.measurement import LEARNING_RATE, make_model, measure


class ManualVQGAN(L.LightningModule):
    """The load's autoencoder, codebook and critic, each of which is stepped by an optimiser of its own."""

    automatic_optimization = False

    def __init__(self, job: Job) -> None:
        super().__init__()
        made = make_model(job)
        self.encoder, self.decoder, self.quantizer = made.encoder, made.decoder, made.quantizer
        self.critic, self.weight, self.commitment = made.discriminator.critic, made.discriminator.weight, 0.25

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, and reconstruction error and commitment in nats per image."""
        code, _, penalties = self.quantizer(self.encoder(x))
        outputs = self.decoder(code)
        recon = F.binary_cross_entropy_with_logits(outputs, x, reduction="sum") / len(x)
        return outputs.sigmoid(), recon, penalties["commitment"].mean()

    def on_train_start(self) -> None:
        with torch.no_grad():
            loader: Any = self.trainer.train_dataloader
            x = next(iter(loader))[0].to(self.device)
            self.quantizer.start(self.encoder(x).movedim(1, -1).flatten(0, -2))

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        (x,) = batch
        optimizers: Any = self.optimizers()
        of_model, of_critic = optimizers
        self.toggle_optimizer(of_model)
        pixels, recon, commitment = self.reconstruct(x)
        generator = -self.critic(pixels).mean()
        self.manual_backward(recon + self.commitment * commitment + self.weight * generator)
        self.quantizer.update(True, batch_idx + 1)
        of_model.step()
        of_model.zero_grad()
        self.untoggle_optimizer(of_model)
        self.toggle_optimizer(of_critic)
        real, fake = self.critic(torch.cat([x, pixels.detach()])).chunk(2)
        critic = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        self.manual_backward(critic)
        of_critic.step()
        of_critic.zero_grad()
        self.untoggle_optimizer(of_critic)
        self.log_dict({"recon": recon, "commitment": commitment, "generator": generator, "critic": critic})

    def validation_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        self.log("val_recon", self.reconstruct(batch[0])[1])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        critic = torch.optim.Adam(self.critic.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.9))
        rest = [*self.encoder.parameters(), *self.decoder.parameters(), *self.quantizer.parameters()]
        return [torch.optim.Adam(rest, lr=LEARNING_RATE), critic]


def train(job: Job) -> dict[str, float]:
    L.seed_everything(0, verbose=False)
    train, val = (torch.load(Path(job["folder"], f"{split}.pt")).float() / 255 for split in ("train", "val"))
    trainer = L.Trainer(
        max_epochs=1 + job["epochs"],
        accelerator="gpu" if job["device"] == "cuda" else "cpu",
        devices=1,
        callbacks=[Stopwatch("laps.json")],
    )
    trainer.fit(
        ManualVQGAN(job),
        DataLoader(TensorDataset(train), batch_size=job["batch_size"], shuffle=True),
        DataLoader(TensorDataset(val), batch_size=job["batch_size"]),
    )
    return {"images": job["images"] * job["epochs"], **json.loads(Path("laps.json").read_text())}


if __name__ == "__main__":
    measure(train)
