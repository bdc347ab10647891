"""The environment of a run: versions, device, commit and memory."""

import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("vaezoo", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")


def describe(device: torch.device) -> dict[str, str | int | None]:
    """Versions, device and commit, as plain values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {package: version_of(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "device": str(device.type),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "machine": machine(device),
        "commit": commit(),
    }


def machine(device: torch.device) -> str:
    """An identifier shared by processes that use the same device at the same time.

    On Linux it is the boot id, which does not identify the machine, elsewhere the host name; plus the UUID of a GPU.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    host = boot.read_text().strip() if boot.is_file() else platform.node()
    gpu = f" {torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else ""
    return host + gpu


def commit() -> str | None:
    """The git commit of this clone, with ``-changed`` if files were modified; None outside of a clone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + "-changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory so far in bytes: on a GPU, what torch allocated; otherwise, the resident memory of this process.

    Uses VmHWM on Linux, because ru_maxrss includes the parent process's memory at the time of the fork.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
