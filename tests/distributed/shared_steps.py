"""One rank's part of steps with statistics of a batch: python -m tests.distributed.shared_steps FOLDER RANK RANKS."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vaezoo.config.choices import CORRUPTIONS
from vaezoo.distributed.batch_shares import BatchShare, even_share, normal_like, within_share
from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.nn.corruption import make_corruption
from vaezoo.nn.free_bits import freed
from vaezoo.nn.jacobians import norm_of_inputs, norm_of_outputs
from vaezoo.nn.penalties import make_penalty
from vaezoo.nn.penalties.base import Encoded
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.gaussian import StandardNormal
from vaezoo.nn.sparsity import bernoulli_kl

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
NAMES = (*OPTIONS, "free_bits")


def step(name: str, total: int, share: BatchShare | None) -> dict[str, Tensor]:
    """Values of each image, and gradients averaged over ranks; a share of None stands for one process."""
    torch.manual_seed(7)
    x = torch.randn(total, 5, dtype=torch.double)
    encoder = nn.Linear(5, 6).double()
    penalty = make_penalty(name, 3, OPTIONS[name]).double() if name in OPTIONS else nn.Module()
    rows = slice(0, total) if share is None else slice(share.start, share.start + max(share.size, 1))
    with within_share(share):
        mean, logvar = encoder(x[rows]).chunk(2, 1)
        code = mean + torch.exp(0.5 * logvar) * normal_like(mean)
        seen = Encoded(x[rows], code, DiagonalGaussian(mean, logvar), StandardNormal(3, x.device), images=20)
        term, critic = penalty(seen) if name in OPTIONS else (freed(gaussian_kl(mean, logvar), 0.4), None)
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


def sparse_step(total: int, share: BatchShare | None) -> dict[str, Tensor]:
    """The same of sparse codes of corrupted images with the norms of their Jacobians."""
    torch.manual_seed(7)
    x = torch.randn(total, 5, dtype=torch.double)
    encoder, decoder = nn.Linear(5, 3).double(), nn.Linear(3, 5).double()
    rows = slice(0, total) if share is None else slice(share.start, share.start + max(share.size, 1))
    with within_share(share):
        seen = [make_corruption(name)(x[rows]) for name in CORRUPTIONS]
        code, norm = norm_of_outputs(lambda at: torch.sigmoid(encoder(at)), sum(seen, torch.zeros(())))
        term = bernoulli_kl(code, 0.05) + norm + norm_of_inputs(lambda at: decoder(at).tanh(), code)
    (term.mean() * (1.0 if share is None else share.weight)).backward()
    found = {"penalty": term.detach()[: len(code) if share is None else share.size], "state": torch.get_rng_state()}
    for parameter_of, parameter in (*encoder.named_parameters("encoder"), *decoder.named_parameters("decoder")):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if share is not None:
            distributed.all_reduce(gradient)
            gradient /= share.world_size
        found[f"gradient of {parameter_of}"] = gradient
    return found


if __name__ == "__main__":
    folder, rank, ranks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    cases = {(name, total): step(name, total, even_share(total, rank, ranks)) for name in NAMES for total in TOTALS}
    cases |= {("sparse", total): sparse_step(total, even_share(total, rank, ranks)) for total in TOTALS}
    torch.save(cases, folder / f"{rank}.pt")
    distributed.destroy_process_group()
