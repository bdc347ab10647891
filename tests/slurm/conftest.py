"""A real SLURM of two nodes, both this machine, in a folder of its own for the time of the tests."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "sinfo", "squeue", "sbatch", "srun", "scontrol", "scancel")
SECONDS = 60
CPUS = 4  # of each node, more than there are: a test is to wait for what it does, and not for a place

SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/ctl
SlurmdSpoolDir={folder}/d.%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
JobRequeue=1
MpiDefault=none
KillWait=30
OverTimeLimit=0
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory=4000 State=UNKNOWN
SlurmdParameters=config_overrides
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands find the two nodes n1 and n2; all is shut down at the end."""
    missing = [name for name in PROGRAMS if _which(name) is None]
    if missing:
        pytest.skip(f"needs Debian's slurmctld, slurmd, slurm-client and munge: there is no {missing[0]}")
    if os.geteuid() != 0:
        pytest.skip("needs root, to start SLURM's daemons")
    _clear_after_others()
    folder = Path(
        mkdtemp(prefix=f"slurm-{os.getpid()}-", dir="/tmp")
    )  # short: a socket's path has at most 107 characters
    folder.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []
    environment: dict[str, str] = {}
    try:
        environment = _start(folder, started)
        yield environment
    finally:
        _stop(environment, started)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, started: list["subprocess.Popen[bytes]"]) -> dict[str, str]:
    control, first, second = _free_ports(3)
    (folder / "ctl").mkdir()
    host = socket.gethostname().partition(".")[0]
    settings = SETTINGS.format(host=host, folder=folder, control=control, first=first, second=second, cpus=CPUS)
    (folder / "slurm.conf").write_text(settings)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    path = os.pathsep.join([outside.get("PATH", ""), "/usr/sbin"])
    environment = {**outside, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(*command: str, **user: str) -> None:
        with (folder / "started.log").open("ab") as log:
            pipes: Any = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
            started.append(subprocess.Popen(command, env=environment, preexec_fn=_end_with_us, **pipes, **user))

    _start_munge(folder, start)
    start("slurmctld", "-D")
    start("slurmd", "-D", "-N", "n1")
    start("slurmd", "-D", "-N", "n2")
    idle = "sinfo", "--noheader", "--Node", "--format=%N %t"

    def both_idle() -> bool:
        said = subprocess.run(idle, env=environment, capture_output=True, text=True).stdout.split("\n")
        return sum(line.endswith(" idle") for line in said) == 2

    until = time.monotonic() + SECONDS
    while not both_idle():
        if time.monotonic() > until or any(process.poll() is not None for process in started):
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
            pytest.skip(f"SLURM does not start on this machine: {logs}")
        time.sleep(0.2)
    return environment


def _start_munge(folder: Path, start: Callable[..., None]) -> None:
    """A munge daemon of our own, with a key and a socket that no other uses."""
    munge = folder / "munge"
    munge.mkdir()
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    shutil.chown(munge, "munge", "munge")
    shutil.chown(munge / "key", "munge", "munge")
    files = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={munge / name}" for option, name in files.items()]
    start(_which("munged") or "munged", "--foreground", "--force", *options, user="munge", group="munge")
    until = time.monotonic() + SECONDS
    while not (munge / "socket").exists() and time.monotonic() < until:
        time.sleep(0.05)


def _stop(environment: dict[str, str], started: list["subprocess.Popen[bytes]"]) -> None:
    """End what still runs on the nodes, and then the daemons, which have nothing to save."""
    if environment:
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], env=environment, capture_output=True)
        until = time.monotonic() + 5
        while jobs(environment) and time.monotonic() < until:
            time.sleep(0.2)
    for process in reversed(started):
        process.kill()
        process.wait()


def jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that wait, run or end."""
    squeue = ["squeue", "--noheader", "--array", "--format=%A"]
    return subprocess.run(squeue, env=environment, capture_output=True, text=True).stdout.split()


def _end_with_us() -> None:
    """In a new process: be killed when the process that started it ends, in whatever way."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _clear_after_others() -> None:
    """Remove the folders of tests that were killed."""
    for path in Path("/tmp").glob("slurm-[0-9]*-*"):
        if not Path(f"/proc/{path.name.split('-')[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
