"""What training on a processor gains by two settings of the process. It knows no models."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


@contextmanager
def quick_arithmetic(device: torch.device) -> Iterator[None]:
    """Settings for the time of a training on ``device``, which for any but a processor stay as they are.

    Numbers too small for float32's exponent (below 1.2e-38) count as zero: the moments of Adam fade through them for
    every weight whose gradient has died, and processors take many times as long over each.

    torch's optimisers ask at every step whether there is a GPU. Lightning has that answered by loading NVIDIA's library
    anew, for the sake of processes that are forked before CUDA is used; here it is not used at all.
    """
    if device.type != "cpu":
        yield
        return
    before = os.environ.get(NVML_CHECK)
    flushes = torch.set_flush_denormal(True)
    os.environ[NVML_CHECK] = "0"
    try:
        yield
    finally:
        if flushes:
            torch.set_flush_denormal(False)
        os.environ.pop(NVML_CHECK)
        if before is not None:
            os.environ[NVML_CHECK] = before
