"""One rank's part of steps with penalties: python -m tests.distributed.shared_steps FOLDER RANK RANKS."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vaezoo.distributed.batch_shares import BatchShare, even_share, normal_like, within_share
from vaezoo.nn.penalties import Encoded, make_penalty
from vaezoo.nn.posteriors import DiagonalGaussian
from vaezoo.nn.priors import StandardNormal

TOTALS = (1, 2, 5, 7)
"""Sizes of batches: some ranks have a stand-in, some one image more."""

OPTIONS: dict[str, dict[str, Any]] = {
    "total_correlation": {},
    "critic_tc": {"widths": [8]},
    "dip": {},
    "mmd": {},
    "sliced_wasserstein": {"projections": 3},
    "adversarial": {"widths": [8]},
}
NAMES = tuple(OPTIONS)


def step(name: str, total: int, share: BatchShare | None) -> dict[str, Tensor]:
    """Values of each image, and gradients averaged over ranks; a share of None stands for one process."""
    torch.manual_seed(7)
    x = torch.randn(total, 5, dtype=torch.double)
    encoder = nn.Linear(5, 6).double()
    penalty = make_penalty(name, 3, OPTIONS[name]).double()
    rows = slice(0, total) if share is None else slice(share.start, share.start + max(share.size, 1))
    with within_share(share):
        mean, logvar = encoder(x[rows]).chunk(2, 1)
        code = mean + torch.exp(0.5 * logvar) * normal_like(mean)
        prior = StandardNormal(3, x.device)
        term, critic = penalty(Encoded(x[rows], code, DiagonalGaussian(mean, logvar), prior, images=20))
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
