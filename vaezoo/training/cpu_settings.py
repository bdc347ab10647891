"""What training on a processor gains by two settings of the process. They know no models."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small for float32's exponent (below 1.2e-38) count as zero.

    The moments of Adam fade through them for every weight whose gradient has died, and processors take many times as
    long over each. It is a setting of the thread: those that torch starts have it from the one that starts them, so it
    must come before the first large operation; they keep it.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # numpy looks once, and would warn of what it does not find
    changed = torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if changed:
            torch.set_flush_denormal(False)


@contextmanager
def cheap_cuda_checks(device: torch.device) -> Iterator[None]:
    """While training on a processor, whether there is a GPU is answered without loading NVIDIA's library anew.

    torch's optimisers ask at every step. Lightning has it answered in the dear way, for the sake of processes that are
    forked before CUDA is used; here it is not used at all.
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
