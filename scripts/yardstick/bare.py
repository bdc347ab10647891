"""The hand-written loop: one tensor of images, the networks, the ELBO, fused Adam. It imports torch alone.

``bare-graph`` is the same with the whole step captured as one CUDA graph.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.networks import make_networks
from yardstick.readings import imported_bytes, read_job, write_result

LEARNING_RATE = 1e-3


def main() -> None:
    imported, job = imported_bytes(), read_job()
    device = torch.device(job["device"])
    torch.manual_seed(0)
    images = torch.load(Path(job["folder"], "train.pt")).to(device)
    graph = job["contestant"] == "bare-graph"
    step = make_step(job, device, capturable=graph)
    batch_size = job["batch_size"]
    if graph:
        replay, batch = captured(step, images[:batch_size].clone())
        count = len(images) // batch_size  # a graph has one size of batch

        def train_on(order: Tensor) -> None:
            torch.index_select(images, 0, order, out=batch)
            replay()

        batches = lambda: torch.randperm(len(images), device=device)[: count * batch_size].split(batch_size)  # noqa: E731
    else:
        count = -(-len(images) // batch_size)

        def train_on(order: Tensor) -> None:
            step(images.index_select(0, order))

        batches = lambda: torch.randperm(len(images), device=device).split(batch_size)  # noqa: E731
    seconds = timed(train_on, batches, job["epochs"])
    trained = min(len(images), count * batch_size) * job["epochs"]
    write_result(job, images=trained, seconds=seconds, imported=imported)


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


def captured(step: Callable[[Tensor], None], batch: Tensor) -> tuple[Callable[[], None], Tensor]:
    """The step as a CUDA graph, and the tensor that it reads its batch from."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(batch)
    return graph.replay, batch


def timed(train_on: Callable[[Tensor], None], batches: Callable[[], tuple[Tensor, ...]], epochs: int) -> float:
    """Seconds of so many epochs, after one of warm-up."""
    started = 0.0
    for epoch in range(1 + epochs):
        if epoch == 1:
            started = now()
        for batch in batches():
            train_on(batch)
    return now() - started


def now() -> float:
    """Seconds, once the device has done all that it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
