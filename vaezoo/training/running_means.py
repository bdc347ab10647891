"""Running means that are exact: sums and counts, on the device until they are asked for. They know tensors alone."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Layout = tuple[tuple[str, int | None], ...]
"""Names of values and how many columns each has beside the axis of images; None for a plain number for each image."""


class RunningMeans:
    """Sums over images of named values, and how many images they are over.

    A short last batch weighs no more than its images do, and uneven shards add up to what one device would get. Batches
    are kept as they come, and added up a few at a time, side by side in one operation, in double precision.
    """

    BUFFERED = 32
    """Batches that wait to be added up, at most."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[Layout, Tensor] = {}
        self._buffered: list[dict[str, Tensor]] = []

    @property
    def totals(self) -> dict[str, Tensor]:
        """The sum over images of each name: () or (D,)."""
        self._add_up()
        return self._by_name(self._sums)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one batch; each value has images as its first axis: (B,) or (B, D)."""
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
        """The mean over images of each name; ``reduce`` adds a tensor up over processes, and is called once."""
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
        """Forget everything."""
        self._sums, self._buffered, self.count = {}, [], 0

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, in types that a checkpoint may hold."""
        return {"totals": self.totals, "count": self.count}

    def gathered_states(self, world_size: int) -> list[dict[str, Any]]:
        """What ``state_dict`` gives in each of ``parts`` processes, for which all of them must ask together."""
        if world_size == 1:
            return [self.state_dict()]
        on_cpu = {name: total.cpu() for name, total in self.totals.items()}
        states: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(states, {"totals": on_cpu, "count": self.count})
        return states

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what ``state_dict`` gave."""
        totals = {name: total.to(device) for name, total in state["totals"].items()}
        layout = tuple((name, len(total) if total.dim() else None) for name, total in totals.items())
        self._sums = {layout: torch.cat([total.reshape(-1) for total in totals.values()])} if totals else {}
        self.count, self._buffered = state["count"], []

    @staticmethod
    def _by_name(sums: Mapping[Layout, Tensor]) -> dict[str, Tensor]:
        """What lies side by side, each under its name; a name that came in several layouts is their sum."""
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
    """What one process goes on from: its own state, or with another number of processes all of them in the first."""
    if isinstance(states, Mapping):  # as checkpoints had it when processes kept nothing of their own
        states = [states]
    if len(states) == world_size:
        return states[rank]
    totals: dict[str, Tensor] = {}
    for state in states:
        totals = {name: totals.get(name, 0) + total for name, total in state["totals"].items()} or totals
    if rank:  # the same names, as all take part when they are added up
        return {"totals": {name: torch.zeros_like(total) for name, total in totals.items()}, "count": 0}
    return {"totals": totals, "count": sum(state["count"] for state in states)}
