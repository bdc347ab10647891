"""Running means that are exact: sums and counts, on the device until they are asked for. They know tensors alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Sums:
    """Sums over images of named values, and how many images they are over.

    A short last batch weighs no more than its images do, and uneven shards add up to what one device would get.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one batch; each value has images as its first axis: (B, ...)."""
        for name, value in values.items():
            dtype = torch.float32 if value.device.type == "mps" else torch.float64  # mps has no float64
            total = value.detach().sum(0, dtype=dtype)
            self.totals[name] = self.totals[name] + total if name in self.totals else total
        self.count += len(next(iter(values.values())))

    def means(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """The mean over images of each name; ``reduce`` adds a tensor up over processes."""
        if not self.totals:
            return {}
        count: Tensor = torch.tensor(float(self.count), device=next(iter(self.totals.values())).device)
        if reduce is None:
            return {name: total / count for name, total in self.totals.items()}
        count = reduce(count)
        return {name: reduce(total) / count for name, total in self.totals.items()}

    def reset(self) -> None:
        """Forget everything."""
        self.totals, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, in types that a checkpoint may hold."""
        return {"totals": dict(self.totals), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what ``state_dict`` gave."""
        self.totals = {name: total.to(device) for name, total in state["totals"].items()}
        self.count = state["count"]
