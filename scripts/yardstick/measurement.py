"""What measured processes share: the clock, speed and memory; and the machine that they run on."""

import json
import math
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.distributed.memory import machine_bytes
from vaezoo.distributed.threads import processors
from vaezoo.nn.networks import make_networks
from yardstick.loads import Job
from yardstick.processes import read_job

LEARNING_RATE = 1e-3


def measure(train: Callable[[Job], dict[str, float]]) -> None:
    """Train as this process's job says, and write speed and memory. To be called after all imports.

    ``train`` returns the ``images`` it trained on in so many ``seconds``, without the warm-up; and if it validated
    ``validation_seconds``, those of pictures drawn in validation included.
    """
    import torch._dynamo  # 100 MiB that the first optimiser would import, and Lightning has already

    imported = _process_bytes()
    job = read_job()
    found = train(job)
    images, seconds, process = found["images"], found["seconds"], _process_bytes()
    result = {
        **found,
        "images_per_second": images / seconds,
        "process_bytes": process,
        "above_imports_bytes": process - imported,
        "threads": torch.get_num_threads(),
    }
    if "validation_seconds" in found:
        result["images_per_second_with_validation"] = images / (seconds + found["validation_seconds"])
    if job["device"] == "cpu" and found.get("cpu_seconds"):
        result["images_per_cpu_second"] = images / found["cpu_seconds"]
    if job["device"] == "cuda":
        result["cuda_allocated_bytes"] = torch.cuda.max_memory_allocated()
        result["cuda_reserved_bytes"] = torch.cuda.max_memory_reserved()
    Path(job["out"]).write_text(json.dumps(result))


def _process_bytes() -> int:
    """The most memory that this process held; ru_maxrss would start with what the parent held when it started this."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _proc_bytes("self/status", "VmHWM") or (peak if sys.platform == "darwin" else peak * 1024)


def wait_for_device() -> None:
    """Wait until a GPU, if one is used, has done all that it was asked to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def now() -> float:
    """Seconds, once the device is idle."""
    wait_for_device()
    return time.perf_counter()


def processor_now() -> float:
    """Processor seconds of all threads of this process."""
    return time.process_time()


class Laps:
    """Seconds of training and of validation since ``start`` was called, and processor seconds of training."""

    def __init__(self) -> None:
        self.seconds = {"seconds": 0.0, "validation_seconds": 0.0, "cpu_seconds": 0.0}
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        self._since = now(), processor_now()

    def end(self, kind: str) -> None:
        """Add the time since the last call to ``kind``."""
        if self._since is not None:
            before, self._since = self._since, (now(), processor_now())
            self.seconds[kind] += self._since[0] - before[0]
            if kind == "seconds":
                self.seconds["cpu_seconds"] += self._since[1] - before[1]


def networks(job: Job) -> tuple[nn.Module, nn.Module]:
    """The encoder, which gives means and log-variances, and the decoder of a job."""
    shape, latent_dim = tuple(job["image_shape"]), job["latent_dim"]
    return make_networks(job["network"], shape, latent_dim, 2 * latent_dim, job["widths"])


def make_model(job: Job) -> Any:
    """The model of the zoo that a job's settings describe, with initial weights."""
    from hydra.utils import instantiate

    from yardstick.loads import train_config

    return instantiate(train_config(job["settings"]).model, image_shape=list(job["image_shape"]))


def describe_machine(device: str, threads: int | None) -> dict[str, Any]:
    """Processor, memory, GPU, versions and commit."""
    from vaezoo.runs import environment  # with Hydra, which would count as memory of contestants

    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        **environment.describe(torch.device(device)),
        "pythae": environment.version_of("pythae"),
        "cpu": _proc_entry("cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": processors(),
        "threads": threads or torch.get_num_threads(),
        "memory_bytes": machine_bytes(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
    }


def check_device(device: str) -> None:
    """ConfigError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a GPU, and torch finds none on this machine; measure with --device cpu")


def check_memory(job: Job) -> None:
    """DataError if a job needs more memory than is available.

    It needs images as uint8, and as float32 for contestants that keep them so; weights, gradients and Adam's moments.
    """
    with torch.device("meta"):
        parts = networks(job) if job["latent_dim"] is not None else (make_model(job),)
        weights = sum(weight.numel() for network in parts for weight in network.parameters())
    pixels = (job["images"] + job["validation"]) * math.prod(job["image_shape"])
    needed, available = pixels * (1 + 4) + weights * 4 * 4, available_bytes(job["device"])
    if available is not None and needed > available:
        kind = "GPU memory" if job["device"] == "cuda" else "memory"
        raise DataError(
            f"{job['load']} needs {needed / 2**30:.2f} GiB of {kind} for its images and its model, and"
            f" {available / 2**30:.2f} GiB are available; free some, or leave it out of --loads"
        )


def available_bytes(device: str) -> int | None:
    """Memory that a new process can have; None where it is not known."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else _proc_bytes("meminfo", "MemAvailable")


def _proc_bytes(file: str, name: str) -> int | None:
    entry = _proc_entry(file, name)
    return int(entry.split()[0]) * 1024 if entry else None


def _proc_entry(file: str, name: str) -> str | None:
    """The first entry of that name in a file of Linux's /proc."""
    path = Path("/proc", file)
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
