"""A training on a processor has settings of its own, which it leaves behind as they were."""

import os

import pytest
import torch

from vaezoo.cpu import NVML_CHECK, quick_arithmetic

TINY = torch.tensor([1e-40])


def flushes() -> bool:
    return (TINY * 1).item() == 0


@pytest.mark.parametrize("before", [None, "1"])
def test_tiny_numbers_are_zero_and_cuda_is_asked_for_cheaply_while_training(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NVML_CHECK, raising=False)
    if before is not None:
        monkeypatch.setenv(NVML_CHECK, before)
    with quick_arithmetic(torch.device("cpu")):
        assert flushes()
        assert os.environ[NVML_CHECK] == "0"
    assert not flushes()
    assert os.environ.get(NVML_CHECK) == before


def test_settings_are_put_back_after_a_mistake() -> None:
    with pytest.raises(ValueError, match="mistake"), quick_arithmetic(torch.device("cpu")):
        raise ValueError("mistake")
    assert not flushes()


def test_other_devices_are_left_alone() -> None:
    with quick_arithmetic(torch.device("cuda")):
        assert not flushes()
