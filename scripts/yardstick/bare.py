"""The hand-written loop: one tensor of images, the networks, the ELBO, fused Adam. It imports only torch.

``bare-flush`` is the same loop with denormal numbers flushed to zero (see ``vaezoo/training/cpu_settings.py``), and
``bare-graph`` is the loop with the whole step captured as one CUDA graph.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.nn.networks import make_networks
from yardstick.readings import imported_bytes, read_job, write_result

LEARNING_RATE = 1e-3


def main() -> None:
    imported, job = imported_bytes(), read_job()
    device, batch_size = torch.device(job["device"]), job["batch_size"]
    torch.manual_seed(0)
    torch.set_flush_denormal(job["contestant"] == "bare-flush")
    images = torch.load(Path(job["folder"], "train.pt")).to(device)
    graph = job["contestant"] == "bare-graph"
    step = make_step(job, device, capturable=graph)
    train_on = by_graph(step, images, batch_size) if graph else by_step(step, images)
    used = len(images) // batch_size * batch_size if graph else len(images)  # a graph has one size of batch

    def epoch() -> None:
        for batch in torch.randperm(len(images), device=device)[:used].split(batch_size):
            train_on(batch)

    epoch()  # warm-up
    started = now()
    for _ in range(job["epochs"]):
        epoch()
    write_result(job, images=used * job["epochs"], seconds=now() - started, imported=imported)


def make_step(job: dict[str, Any], device: torch.device, *, capturable: bool) -> Callable[[Tensor], None]:
    """One optimiser step on a batch of stored pixels, (B, C, H, W) uint8."""
    networks = make_networks(
        job["network"], tuple(job["image_shape"]), job["latent_dim"], 2 * job["latent_dim"], job["widths"]
    )
    encoder, decoder = (network.to(device) for network in networks)
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


def by_step(step: Callable[[Tensor], None], images: Tensor) -> Callable[[Tensor], None]:
    """Training on the images at some positions, call by call."""
    return lambda positions: step(images.index_select(0, positions))


def by_graph(step: Callable[[Tensor], None], images: Tensor, batch_size: int) -> Callable[[Tensor], None]:
    """The same as a CUDA graph, which reads each batch from one place."""
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

    def train_on(positions: Tensor) -> None:
        torch.index_select(images, 0, positions, out=batch)
        graph.replay()

    return train_on


def now() -> float:
    """Seconds, once the device has done all that it was asked to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
