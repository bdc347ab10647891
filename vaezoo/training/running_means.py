"""Exact running means over images: sums and counts, kept on the device until they are read."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Layout = tuple[tuple[str, int | None], ...]
"""Names of values, each with its number of columns; None for values of shape (B,)."""


class RunningMeans:
    """Means of named values over images, exact for batches and shares of unequal size.

    Batches are buffered and summed together in float64.
    """

    BUFFERED = 32
    """Batches that are summed together."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[Layout, Tensor] = {}
        self._buffered: list[dict[str, Tensor]] = []

    @property
    def totals(self) -> dict[str, Tensor]:
        """The sum over images by name: () or (D,)."""
        self._add_up()
        return self._by_name(self._sums)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one batch of values, each (B,) or (B, D)."""
        self._buffered.append({name: value.detach() for name, value in values.items()})
        self.count += len(next(iter(values.values())))
        if len(self._buffered) == self.BUFFERED:
            self._add_up()

    @torch.no_grad()
    def _add_up(self) -> None:
        waiting, self._buffered = self._buffered, []
        for names, batches in groupby(waiting, key=list):
            several = list(batches)
            values = {name: torch.cat([batch[name] for batch in several]) for name in names}
            layout = tuple((name, value.shape[1] if value.dim() > 1 else None) for name, value in values.items())
            side_by_side = torch.column_stack(tuple(values.values()))
            dtype = torch.float32 if side_by_side.device.type == "mps" else torch.float64  # mps has no float64
            total = side_by_side.sum(0, dtype=dtype)
            self._sums[layout] = self._sums[layout] + total if layout in self._sums else total

    def means(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """The mean over images by name: () or (D,). ``reduce`` sums a tensor over ranks and is called at most once."""
        self._add_up()
        if not self._sums:
            return {}
        sums = list(self._sums.values())
        together = torch.cat([*sums, sums[0].new_tensor([self.count])])
        if reduce is not None:
            together = reduce(together)
        means = (together[:-1] / together[-1]).split([len(total) for total in sums])
        return self._by_name(dict(zip(self._sums, means, strict=True)))

    def reset(self) -> None:
        """Drop all sums and counts."""
        self._sums, self._buffered, self.count = {}, [], 0

    def state_dict(self) -> dict[str, Any]:
        """Totals and count, in types that ``torch.load(weights_only=True)`` accepts."""
        return {"totals": self.totals, "count": self.count}

    def gathered_states(self, world_size: int) -> list[dict[str, Any]]:
        """The ``state_dict`` of every rank, with tensors on the CPU. Collective if ``world_size`` > 1."""
        if world_size == 1:
            return [self.state_dict()]
        on_cpu = {name: total.cpu() for name, total in self.totals.items()}
        states: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(states, {"totals": on_cpu, "count": self.count})
        return states

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore a state that ``state_dict`` returned."""
        totals = {name: total.to(device) for name, total in state["totals"].items()}
        layout = tuple((name, len(total) if total.dim() else None) for name, total in totals.items())
        self._sums = {layout: torch.cat([total.reshape(-1) for total in totals.values()])} if totals else {}
        self.count, self._buffered = state["count"], []

    @staticmethod
    def _by_name(sums: Mapping[Layout, Tensor]) -> dict[str, Tensor]:
        """Split concatenated sums by name; add up those of a name that occurs in several layouts."""
        named: dict[str, Tensor] = {}
        for layout, total in sums.items():
            parts = total.split([1 if columns is None else columns for _, columns in layout])
            for (name, columns), part in zip(layout, parts, strict=True):
                value = part[0] if columns is None else part
                named[name] = named[name] + value if name in named else value
        return named


def state_of_rank(
    states: Sequence[Mapping[str, Any]] | Mapping[str, Any], rank: int, world_size: int
) -> Mapping[str, Any]:
    """The state that a rank resumes from: its own, or, if the number of ranks changed, all of them summed in rank 0."""
    if isinstance(states, Mapping):  # checkpoints of earlier versions hold one state for all ranks
        states = [states]
    if len(states) == world_size:
        return states[rank]
    totals: dict[str, Tensor] = {}
    for state in states:
        totals = {name: totals.get(name, 0) + total for name, total in state["totals"].items()} or totals
    if rank:  # the reduction over ranks needs the same names everywhere
        return {"totals": {name: torch.zeros_like(total) for name, total in totals.items()}, "count": 0}
    return {"totals": totals, "count": sum(state["count"] for state in states)}
