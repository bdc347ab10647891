"""A training on a processor has settings of its own, which it leaves behind as they were."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vaezoo import Run
from vaezoo.models import VAE
from vaezoo.training.cpu_settings import NVML_CHECK, cheap_cuda_checks, denormals_flushed

TINY = torch.tensor([1e-40])


def flushes() -> bool:
    return (TINY * 1).item() == 0


def test_tiny_numbers_are_zero_within() -> None:
    with denormals_flushed():
        assert flushes()
    assert not flushes()


def test_tiny_numbers_are_back_after_a_mistake() -> None:
    with pytest.raises(ValueError, match="mistake"), denormals_flushed():
        raise ValueError("mistake")
    assert not flushes()


@pytest.mark.parametrize("before", [None, "1"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cuda_is_asked_for_cheaply_on_a_processor(
    device: str, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NVML_CHECK, raising=False)
    if before is not None:
        monkeypatch.setenv(NVML_CHECK, before)
    with cheap_cuda_checks(torch.device(device)):
        assert os.environ.get(NVML_CHECK) == ("0" if device == "cpu" else before)
    assert os.environ.get(NVML_CHECK) == before


def test_a_training_has_both(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, str | None]] = []
    losses = VAE.losses

    def watched(self: VAE, *arguments: Any) -> Any:
        seen.append((flushes(), os.environ.get(NVML_CHECK)))
        return losses(self, *arguments)

    monkeypatch.setattr(VAE, "losses", watched)
    train("run", "trainer.accelerator=cpu")
    assert set(seen) == {(True, "0")}
    assert not flushes()
