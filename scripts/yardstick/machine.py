"""The machine that measurements run on: processor, memory, GPU, versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaezoo.config.errors import ConfigError
from vaezoo.nn.networks import make_networks
from yardstick.loads import Load

PACKAGES = ("vaezoo", "torch", "torchvision", "lightning", "numpy", "pythae")


def describe(device: str, threads: int | None) -> dict[str, Any]:
    """The machine in plain values; memory in bytes."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "device": device,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "memory_bytes": _memory("MemTotal"),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def check_device(device: str) -> None:
    """ConfigError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a GPU, and torch finds none on this machine; measure with --device cpu")


def available_bytes(device: str) -> int | None:
    """Memory that new processes can have on the device, None where it is not known."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else _memory("MemAvailable")


def parameters(load: Load) -> int:
    """Weights of a load's networks."""
    with torch.device("meta"):
        networks = make_networks(load.network, load.image_shape, load.latent_dim, 2 * load.latent_dim, load.widths)
    return sum(parameter.numel() for parameter in nn.ModuleList(networks).parameters())


def _cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory(entry: str) -> int | None:
    """A line of /proc/meminfo in bytes; None where there is none."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")]
    return found[0] if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
