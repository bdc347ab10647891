"""The job, memory and result of a measured process, read and written by itself. It imports nothing slow."""

import json
import resource
import sys
from pathlib import Path
from typing import Any


def read_job() -> dict[str, Any]:
    """The job that this process was started with."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return job


def peak_memory_bytes() -> int:
    """Most memory that this process held so far.

    On Linux from VmHWM: ru_maxrss would start with what the parent process held when it started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def imported_bytes() -> int:
    """Memory that imports alone took, to be asked for behind them and before there is data or a model."""
    import torch._dynamo  # noqa: F401 - 100 MiB that the first optimiser would import, and Lightning has already

    return peak_memory_bytes()


def write_result(
    job: dict[str, Any], *, images: int, seconds: float, imported: int, validation_seconds: float | None = None
) -> None:
    """Speed and memory of this process: ``imported`` is what it held after its imports, before data and model.

    ``seconds`` are those of training, ``validation_seconds`` those of validation and of pictures drawn in it.
    """
    import torch

    peak = peak_memory_bytes()
    result = {
        "images": images,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "process_bytes": peak,
        "above_imports_bytes": peak - imported,
        "threads": torch.get_num_threads(),
    }
    if validation_seconds is not None:
        whole = seconds + validation_seconds
        result |= {"validation_seconds": validation_seconds, "images_per_second_with_validation": images / whole}
    if job["device"] == "cuda":
        result["cuda_allocated_bytes"] = torch.cuda.max_memory_allocated()
        result["cuda_reserved_bytes"] = torch.cuda.max_memory_reserved()
    Path(job["out"]).write_text(json.dumps(result))
