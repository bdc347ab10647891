"""What two processes quantise and learn is what one does, with batches that do not divide and with restarts."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing

from vaezoo.distributed import batch_shares
from vaezoo.distributed.batch_shares import even_share
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.base import Quantizer
from vaezoo.nn.quantizers.vector import VectorQuantizer

STEPS = {
    "even": [[4], [4]],
    "uneven": [[5], [3], [1]],  # of one image, the second process has a stand-in
    "accumulated": [[4, 1], [1, 1], [3, 2]],
}
"""Sizes of the micro-batches of each step."""

MOVING: dict[str, Any] = {"size": 12, "decay": 0.5, "restart": 0.8}
"""A restart that high happens in most steps."""

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vq": ("vq", MOVING),
    "cosine": ("vq", MOVING | {"normalize": True}),
    "rvq": ("rvq", MOVING | {"levels": 3, "dropout": True}),
    "shared": ("rvq", MOVING | {"levels": 3, "shared": True}),
}
"""Quantisers with moving averages: name and options."""

STATISTICS = ("lfq", "bsq")
"""Quantisers with a penalty that is a statistic of the batch."""


def trained(kind: str, case: str, rank: int, world_size: int) -> dict[str, Any]:
    """The quantiser after the steps of a case: its buffers, its restarts by step, and the next random number."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = make_quantizer(KINDS[kind][0], 3, KINDS[kind][1])
    data = torch.Generator().manual_seed(1)
    restarts = []
    for sizes in STEPS[case]:
        for size in sizes:
            step(made, torch.randn(size, 3, 2, 2, generator=data), rank, world_size)
        made.update()
        restarts.append(sum(int(part.restarted) for part in made.modules() if isinstance(part, VectorQuantizer)))
    return {**made.state_dict(), "restarts": restarts, "next": torch.rand(3)}


def step(made: Quantizer, z: Tensor, rank: int, world_size: int) -> None:
    if world_size == 1:
        made(z)
        return
    share = even_share(len(z), rank, world_size)
    with batch_shares.within_share(share):
        made(share.rows(z, max(share.size, 1)))


def of_statistic(name: str, size: int, rank: int, world_size: int) -> dict[str, Tensor]:
    """The mean penalty of a batch of so many images, and its gradient for the parameters of an encoder."""
    torch.manual_seed(2)
    made = make_quantizer(name, None, {"bits": 3, "tau": 1.0})
    matrix, x = torch.randn(3, 3, requires_grad=True), torch.randn(size, 3, 2, 2)
    share = even_share(size, rank, world_size) if world_size > 1 else None
    with batch_shares.within_share(share):
        own = x if share is None else share.rows(x, max(share.size, 1))
        penalty = made(torch.einsum("bchw,dc->bdhw", own, matrix)).penalties["entropy"]
    (penalty.mean() * (1 if share is None else share.weight)).backward()
    found = torch.cat([penalty.sum()[None] * (share is None or share.size > 0), matrix.grad.flatten()])
    if share is not None:
        torch.distributed.all_reduce(found)
        found[1:] /= world_size
    return {"mean": found[0] / size, "gradient": found[1:]}


def all_cases(rank: int, folder: Path) -> None:
    """What one of two processes does."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found: dict[tuple[str, Any], Any] = {case: trained(*case, rank, 2) for case in product(KINDS, STEPS)}
    found |= {case: of_statistic(*case, rank, 2) for case in product(STATISTICS, (4, 3, 1))}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], dict[str, Any]]]:
    """Results of both processes by kind and case."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(all_cases, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_codebook_of_one(
    kind: str, case: str, on_two: list[dict[tuple[str, str], dict[str, Any]]]
) -> None:
    alone = trained(kind, case, 0, 1)
    assert max(alone["restarts"]) > 0
    first, second = (found[kind, case] for found in on_two)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)


@pytest.mark.parametrize("size", [4, 3, 1])
@pytest.mark.parametrize("name", STATISTICS)
def test_two_processes_have_the_penalty_of_one_and_its_gradient(
    name: str, size: int, on_two: list[dict[tuple[str, Any], dict[str, Any]]]
) -> None:
    """Of a single image, the second process has a stand-in."""
    alone = of_statistic(name, size, 0, 1)
    assert alone["gradient"].abs().max() > 0.01
    for found in on_two:
        torch.testing.assert_close(found[name, size], alone, rtol=1e-5, atol=1e-6)


def test_a_stand_in_adds_nothing_even_if_it_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Tensor] = []
    all_reduce: Callable[[Tensor], None] = sent.append
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    values = torch.tensor([1.0, float("nan")], requires_grad=True)
    for rank, expected in ((0, values), (1, torch.zeros(2))):
        with batch_shares.within_share(even_share(1, rank, 2)):
            found = batch_shares.sum_of_all(values)
        torch.testing.assert_close(found, expected.detach(), equal_nan=True)
        assert found is sent[-1]
    assert len(sent) == 2
    alone = batch_shares.sum_of_all(values)
    assert not alone.requires_grad
    assert torch.equal(alone.nan_to_num(), values.nan_to_num())


def test_a_training_forward_has_one_collective_and_an_evaluation_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", sent.append)
    made = VectorQuantizer(3, size=12)
    with batch_shares.within_share(even_share(4, 0, 2)):
        made(torch.randn(2, 3, 2, 2))
        assert len(sent) == 1
        made.update()
        made.eval()(torch.randn(2, 3, 2, 2))
        VectorQuantizer(3, size=12, update="gradient")(torch.randn(2, 3, 2, 2))
    assert len(sent) == 1
