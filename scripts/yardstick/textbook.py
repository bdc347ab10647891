"""Lightning as in its tutorials: self.log in each step, a DataLoader, ToTensor for each image."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, random_split
from torchvision import datasets, transforms

from yardstick.callbacks import Stopwatch
from yardstick.loads import Job
from yardstick.measurement import LEARNING_RATE, measure, networks


class LitVAE(L.LightningModule):
    """A VAE with the load's networks."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.encoder, self.decoder = networks(job)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error and KL divergence, in nats per image."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        code = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        recon = F.binary_cross_entropy_with_logits(self.decoder(code), x, reduction="sum") / len(x)
        kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum() / len(x)
        return recon, kl

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        recon, kl = self.losses(batch[0])
        loss = recon + kl
        self.log("train_loss", loss)
        self.log("train_recon", recon)
        self.log("train_kl", kl)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        recon, kl = self.losses(batch[0])
        self.log("val_loss", recon + kl)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class Images(Dataset[tuple[Tensor, int]]):
    """Images of an array, one by one through PIL, as torchvision's data sets give them."""

    def __init__(self, path: Path) -> None:
        self.pixels = torch.load(path).permute(0, 2, 3, 1).squeeze(-1).contiguous().numpy()
        self.transform = transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0


def splits(job: Job) -> tuple[Dataset[Any], Dataset[Any]]:
    """Training and validation images; those of MNIST from torchvision's own data set."""
    if job["load"] != "mnist-mlp":
        return Images(Path(job["folder"], "train.pt")), Images(Path(job["folder"], "val.pt"))
    mnist = datasets.MNIST(job["root"], train=True, transform=transforms.ToTensor())
    used = Subset(mnist, range(job["images"] + job["validation"]))
    train, val = random_split(used, [job["images"], job["validation"]], torch.Generator().manual_seed(0))
    return train, val


def train(job: Job) -> dict[str, float]:
    L.seed_everything(0, verbose=False)
    workers = int(job["contestant"].rpartition("-")[2])
    train, val = splits(job)
    trainer = L.Trainer(
        max_epochs=1 + job["epochs"],
        accelerator="gpu" if job["device"] == "cuda" else "cpu",
        devices=1,
        callbacks=[Stopwatch("laps.json")],
    )
    trainer.fit(
        LitVAE(job),
        DataLoader(train, batch_size=job["batch_size"], shuffle=True, num_workers=workers),
        DataLoader(val, batch_size=job["batch_size"], num_workers=workers),
    )
    return {"images": job["images"] * job["epochs"], **json.loads(Path("laps.json").read_text())}


if __name__ == "__main__":
    measure(train)
