"""The hand-written loop: one tensor of images, the networks, the ELBO, fused Adam. It imports only torch.

``bare-flush`` is the same loop with denormal numbers flushed to zero (see ``vaezoo/training/cpu_settings.py``), and
``bare-graph`` is the loop with the whole step captured as one CUDA graph.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from yardstick.loads import Job
from yardstick.measurement import LEARNING_RATE, measure, networks, now


def train(job: Job) -> dict[str, float]:
    device, batch_size = torch.device(job["device"]), job["batch_size"]
    torch.manual_seed(0)
    torch.set_flush_denormal(job["contestant"] == "bare-flush")
    images = torch.load(Path(job["folder"], "train.pt")).to(device)
    graph = job["contestant"] == "bare-graph"
    step = make_step(job, device, capturable=graph)
    used = len(images) // batch_size * batch_size if graph else len(images)  # a graph has one batch size
    train_on = captured(step, images, batch_size) if graph else lambda indices: step(images.index_select(0, indices))

    def epoch() -> None:
        for indices in torch.randperm(len(images), device=device)[:used].split(batch_size):
            train_on(indices)

    epoch()  # warm-up
    started = now()
    for _ in range(job["epochs"]):
        epoch()
    return {"images": used * job["epochs"], "seconds": now() - started}


def make_step(job: Job, device: torch.device, *, capturable: bool) -> Callable[[Tensor], None]:
    """One optimiser step on a batch of stored pixels, (B, C, H, W) uint8."""
    encoder, decoder = (network.to(device) for network in networks(job))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True, capturable=capturable)

    def step(pixels: Tensor) -> None:
        x = pixels.float() / 255
        mean, logvar = encoder(x).chunk(2, dim=1)
        code = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        recon = F.binary_cross_entropy_with_logits(decoder(code), x, reduction="sum")
        kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum()
        loss = (recon + kl) / len(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def captured(step: Callable[[Tensor], None], images: Tensor, batch_size: int) -> Callable[[Tensor], None]:
    """Training on the images with some indices as a CUDA graph, which reads each batch from the same memory."""
    batch = images[:batch_size].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(batch)

    def train_on(indices: Tensor) -> None:
        torch.index_select(images, 0, indices, out=batch)
        graph.replay()

    return train_on


if __name__ == "__main__":
    measure(train)
