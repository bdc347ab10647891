"""One rank's part of steps with statistics of a batch: python -m tests.distributed.shared_steps FOLDER RANK RANKS."""

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from vaezoo.distributed.batch_shares import BatchShare, even_share, normal_like, within_share
from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.nn.free_bits import freed
from vaezoo.nn.penalties import Encoded, make_penalty
from vaezoo.nn.posteriors import DiagonalGaussian

TOTALS = (1, 2, 5, 7)
"""Sizes of batches: some ranks have a stand-in, some one image more."""

NAMES = ("total_correlation", "critic_tc", "free_bits")


def step(name: str, total: int, share: BatchShare | None) -> dict[str, Tensor]:
    """Values of each image, and gradients averaged over ranks; a share of None stands for one process."""
    torch.manual_seed(7)
    x = torch.randn(total, 5, dtype=torch.double)
    encoder = nn.Linear(5, 6).double()
    floor = name == "free_bits"
    penalty = nn.Module() if floor else make_penalty(name, 3, {"widths": [8]} if name == "critic_tc" else {}).double()
    rows = slice(0, total) if share is None else slice(share.start, share.start + max(share.size, 1))
    with within_share(share):
        mean, logvar = encoder(x[rows]).chunk(2, 1)
        code = mean + torch.exp(0.5 * logvar) * normal_like(mean)
        seen = Encoded(x[rows], code, DiagonalGaussian(mean, logvar), images=20)
        term, critic = (freed(gaussian_kl(mean, logvar), 0.4), None) if floor else penalty(seen)
    objective = term if critic is None else term + critic
    (objective.mean() * (1.0 if share is None else share.weight)).backward()
    counted = len(x[rows]) if share is None else share.size
    found = {"penalty": term.detach()[:counted], "state": torch.get_rng_state()}
    if critic is not None:
        found["critic"] = critic.detach()[:counted]
    for parameter_of, parameter in (*encoder.named_parameters(), *penalty.named_parameters()):
        assert parameter.grad is not None, f"{parameter_of} is not in the graph"
        if share is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= share.world_size
        found[f"gradient of {parameter_of}"] = parameter.grad
    return found


if __name__ == "__main__":
    folder, rank, ranks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    cases = {(name, total): step(name, total, even_share(total, rank, ranks)) for name in NAMES for total in TOTALS}
    torch.save(cases, folder / f"{rank}.pt")
    distributed.destroy_process_group()
