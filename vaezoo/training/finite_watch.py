"""Detection of non-finite losses and gradients without synchronising with the device."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class NonFiniteStep(NamedTuple):
    """The first step with a non-finite loss or gradient.

    ``what`` is "loss" or "gradient", ``step`` the number of optimiser steps taken before, ``batches`` the indices
    within the epoch of the batches behind it, and ``values`` this rank's per-image values of each batch, each (B,).
    """

    what: str
    step: int
    batches: list[int]
    values: list[dict[str, Tensor]]


class Watch:
    """Losses and gradient flags of recent steps, kept on the device until they are checked."""

    CAPACITY = 256
    """Maximum number of recorded batches; call ``first_nonfinite`` before recording more."""

    def __init__(self) -> None:
        self._numbers: list[Tensor] = []
        self._sources: list[tuple[str, int]] = []  # of each number: "loss" or "gradient", and the index of its batch
        self._batches: list[tuple[int, int, dict[str, Tensor]]] = []

    def is_full(self, step: int) -> bool:
        """Whether the record must be checked before the first batch of ``step`` is added."""
        return len(self._batches) >= self.CAPACITY and self._batches[-1][0] != step

    def record_loss(self, step: int, batch: int, loss: Tensor, values: Mapping[str, Tensor]) -> None:
        """Record a batch: its loss () and its named per-image values, each (B,)."""
        self._batches.append((step, batch, {name: value.detach() for name, value in values.items()}))
        self._keep("loss", loss.detach())

    def record_gradient(self, wrong: Tensor) -> None:
        """Record a result of ``any_nonfinite`` for the gradient of the most recent batches."""
        if self._batches:
            self._keep("gradient", wrong)

    def forget(self, *, keep: int | None = None) -> None:
        """Drop all numbers, and all batches except those of step ``keep`` (by default the last step)."""
        last = self._batches[-1][0] if self._batches and keep is None else keep
        self._numbers, self._sources = [], []
        self._batches = [batch for batch in self._batches if batch[0] == last]

    def _keep(self, what: str, number: Tensor) -> None:
        self._sources.append((what, len(self._batches) - 1))
        self._numbers.append(number.reshape(()))

    def first_nonfinite(self, agree: Callable[[Tensor], Tensor] | None = None) -> NonFiniteStep | None:
        """The first non-finite loss or gradient, or None; then forget all but the last step.

        Synchronises with the device. ``agree`` reduces an integer () to its minimum over ranks; with it the call is
        collective.
        """
        numbers, sources, batches = self._numbers, self._sources, self._batches
        self.forget()
        if not sources:
            return None
        place = _first_nonfinite(torch.stack(numbers), [what == "gradient" for what, _ in sources])
        found = int(place if agree is None else agree(place))
        if found == len(sources):
            return None
        what, last = sources[found]
        step = batches[last][0]
        led = [batch for batch in batches[: last + 1] if batch[0] == step] if what == "gradient" else [batches[last]]
        return NonFiniteStep(what, step, [batch for _, batch, _ in led], [values for _, _, values in led])


def _first_nonfinite(numbers: Tensor, are_flags: list[bool]) -> Tensor:
    """Index of the first non-finite number or set flag; the count of numbers if there is none: ()"""
    flags = torch.tensor(are_flags, device=numbers.device)
    wrong = torch.where(flags, numbers != 0, numbers.isfinite().logical_not())
    places = torch.arange(len(numbers), device=numbers.device)
    return torch.where(wrong, places, len(numbers)).amin()


_ones: dict[torch.device, Tensor] = {}


@torch.no_grad()
def any_nonfinite(gradients: Iterable[Tensor]) -> Tensor:
    """1.0 if any gradient holds inf or NaN, else 0.0: (1,). Does not synchronise with the device.

    Of sharded gradients, only the local shard is checked.
    """
    parts = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    if not parts:
        return torch.zeros(1)
    device = parts[0].device
    if device.type not in ("cpu", "cuda") or any(part.dtype != torch.float32 for part in parts):
        sums = [part.sum(dtype=torch.promote_types(part.dtype, torch.float32)) for part in parts]
        return torch.stack(sums).isfinite().all().logical_not().float().reshape(1)
    # One kernel checks all gradients in one pass (and multiplies them by one). A norm costs as much and can overflow.
    found = torch.zeros(1, device=device)
    if device not in _ones:
        _ones[device] = torch.ones(1, device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(parts, found, _ones[device])
    return found
