"""Two process settings that speed up training on a CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormal numbers (in float32 those below 1.2e-38) to zero.

    Adam's moments decay through them for every weight whose gradient has become zero, and CPUs are many times slower on
    denormals. The setting is per thread, and torch's worker threads inherit it when they start, so enter this before
    the first large operation; they keep it afterwards.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # cached by numpy, which would warn about missing denormals later
    changed = torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if changed:
            torch.set_flush_denormal(False)


@contextmanager
def cheap_cuda_checks(device: torch.device) -> Iterator[None]:
    """Let ``torch.cuda.is_available`` skip loading NVML on every call while training on a CPU.

    torch optimisers call it at every step. Lightning selects the slow NVML check, which is safe before a fork; without
    CUDA that does not matter.
    """
    before = os.environ.get(NVML_CHECK)
    if device.type == "cpu":
        os.environ[NVML_CHECK] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(NVML_CHECK, None)
        else:
            os.environ[NVML_CHECK] = before
