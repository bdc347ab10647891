"""Losses and gradients watched for numbers that are not finite, without waiting for the device. It knows tensors."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class NonFiniteStep(NamedTuple):
    """Where the first number that is not finite came up.

    ``what`` is "loss" or "gradient", ``step`` the optimiser steps taken before, ``batches`` the places within the epoch
    of the batches that led to it, and ``values`` each value of each of this process's images in them (B,).
    """

    what: str
    step: int
    batches: list[int]
    values: list[dict[str, Tensor]]


class Watch:
    """What each step came to, on the device, until somebody looks."""

    CAPACITY = 256
    """Batches that are kept at most; whoever keeps more has to look first."""

    def __init__(self) -> None:
        self._numbers: list[Tensor] = []
        self._sources: list[tuple[str, int]] = []  # what each number is, and to which of the batches it belongs
        self._batches: list[tuple[int, int, dict[str, Tensor]]] = []

    def is_full(self, step: int) -> bool:
        """Whether it is time to look, before the first batch of this step is kept."""
        return len(self._batches) >= self.CAPACITY and self._batches[-1][0] != step

    def record_loss(self, step: int, batch: int, loss: Tensor, values: Mapping[str, Tensor]) -> None:
        """Keep what a batch came to: its loss () and each value of each image (B,)."""
        self._batches.append((step, batch, {name: value.detach() for name, value in values.items()}))
        self._keep("loss", loss.detach())

    def record_gradient(self, wrong: Tensor) -> None:
        """Keep what ``any_nonfinite`` says of the gradient that the last batches led to."""
        if self._batches:
            self._keep("gradient", wrong)

    def forget(self, *, keep: int | None = None) -> None:
        """Keep no numbers any more, and batches of the step ``keep`` alone, or of the last one."""
        last = self._batches[-1][0] if self._batches and keep is None else keep
        self._numbers, self._sources = [], []
        self._batches = [batch for batch in self._batches if batch[0] == last]

    def _keep(self, what: str, number: Tensor) -> None:
        self._sources.append((what, len(self._batches) - 1))
        self._numbers.append(number.reshape(()))

    def first_nonfinite(self, agree: Callable[[Tensor], Tensor] | None = None) -> NonFiniteStep | None:
        """The first number of all that is not finite, which waits for the device; all but the last step is forgotten.

        ``agree`` takes the least of an integer () over processes, all of which look together.
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
    """The place of the first number that is not finite, or of the first flag that is set; their count if none is: ()"""
    flags = torch.tensor(are_flags, device=numbers.device)
    wrong = torch.where(flags, numbers != 0, numbers.isfinite().logical_not())
    places = torch.arange(len(numbers), device=numbers.device)
    return torch.where(wrong, places, len(numbers)).amin()


_ones: dict[torch.device, Tensor] = {}


@torch.no_grad()
def any_nonfinite(gradients: Iterable[Tensor]) -> Tensor:
    """1 if any number of these gradients is infinite or none, else 0: (1,). Nothing is waited for.

    Of gradients that processes have parts of, only this process's part is looked at.
    """
    parts = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    if not parts:
        return torch.zeros(1)
    device = parts[0].device
    if device.type not in ("cpu", "cuda") or any(part.dtype != torch.float32 for part in parts):
        sums = [part.sum(dtype=torch.promote_types(part.dtype, torch.float32)) for part in parts]
        return torch.stack(sums).isfinite().all().logical_not().float().reshape(1)
    # One pass of one kernel over all of them; it also multiplies them, by one. A norm costs as much and can overflow.
    found = torch.zeros(1, device=device)
    if device not in _ones:
        _ones[device] = torch.ones(1, device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(parts, found, _ones[device])
    return found
