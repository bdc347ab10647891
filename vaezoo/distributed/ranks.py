"""The processes of one run: a common run folder, checks of devices and launchers, and lost processes.

They are started by Lightning, torchrun or SLURM, and find their ranks in the environment.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from vaezoo.config.errors import ConfigError, RunError
from vaezoo.distributed.interrupts import STARTED_BY, starter
from vaezoo.distributed.rank_zero import is_rank_zero
from vaezoo.distributed.threads import processors

RUN_DIR = "VAEZOO_RUN_DIR"
"""Environment variable that passes rank 0's run folder to the processes that Lightning starts."""

PATIENCE = 5.0
"""Seconds that a process waits for another one to report the same error, or for itself to end."""

BY_HAND = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""Environment variables that a user sets on each machine to train on several without a launcher."""

_rounds = count()
_stores: list[TCPStore] = []


# a common run folder -------------------------------------------------------------------------------------------------


@contextmanager
def agreeing_on(run_dir: Path) -> Iterator[Path]:
    """Rank 0's run folder on every rank: names composed by each rank would differ in their time."""
    run_dir = _agreed(run_dir)
    before = os.environ.get(RUN_DIR)
    os.environ[RUN_DIR] = str(run_dir)
    try:
        yield run_dir
    finally:
        os.environ.pop(RUN_DIR)
        if before is not None and is_rank_zero():
            os.environ[RUN_DIR] = before


def _agreed(run_dir: Path) -> Path:
    if torch.distributed.is_initialized():  # a program that trains several times
        shared: list[Any] = [str(run_dir)]
        torch.distributed.broadcast_object_list(shared)
        return Path(shared[0])
    launcher = _launcher()
    if launcher is None:
        return run_dir if is_rank_zero() else Path(os.environ.get(RUN_DIR, run_dir))
    store, key = _store(launcher), _key("run_dir")
    if is_rank_zero():
        store.set(key, str(run_dir.absolute()))
    return Path(store.get(key).decode())


def _launcher() -> ClusterEnvironment | None:
    """The launcher that started several processes; None if that was Lightning, or if there is one process."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment() if int(os.environ["WORLD_SIZE"]) > 1 else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and SLURMEnvironment.detect():
        return SLURMEnvironment()
    return None


def _store(launcher: ClusterEnvironment) -> TCPStore:
    """Key-value store that the processes share before a process group exists; created once per process."""
    if not _stores:
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
        address, port = launcher.main_address, launcher.main_port
        master = is_rank_zero() and not hosted
        _stores.append(TCPStore(address, port, is_master=master, wait_for_workers=False, multi_tenant=True))
    return _stores[0]


def _key(what: str) -> str:
    """A key of the store, unique for this run and for this restart by torchrun."""
    return f"vaezoo/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_rounds)}/{what}"


# devices, launchers and batch sizes ----------------------------------------------------------------------------------


def choose_devices(trainer: Any) -> None:
    """Resolve ``devices: auto`` in settings for several devices; ConfigError if they ask for more GPUs than exist.

    ``auto`` is the number of processes that a launcher started, else all GPUs, or up to two processes on the CPU.
    """
    asked, there = str(trainer.devices), torch.cuda.device_count()
    wanted = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and there > 0)
    if asked == "auto" and trainer.strategy != "auto":
        launcher = _launcher()
        available = there if wanted else min(2, processors())
        trainer.devices = available if launcher is None else max(1, launcher.world_size() // int(trainer.num_nodes))
    if wanted and there and asked.isdigit() and int(asked) > there:
        raise ConfigError(
            f"trainer.devices={asked} asks for more GPUs than this machine has ({there}); set trainer.devices="
            f"{there}, or trainer.num_nodes for several machines"
        )


def check(trainer: L.Trainer, batch_sizes: dict[str, int]) -> None:
    """ConfigError if the number of processes does not fit the machine, the launcher or the batch sizes."""
    devices, nodes = trainer.num_devices, trainer.num_nodes
    cpu = trainer.strategy.root_device.type == "cpu"
    if getattr(trainer.strategy, "_start_method", "popen") != "popen":
        raise ConfigError(
            "trainer.strategy=ddp_spawn, ddp_fork and ddp_notebook train in processes that do not outlive training; use"
            " trainer=ddp"
        )
    _check_launcher(devices, nodes)
    if cpu and devices > processors():
        raise ConfigError(
            f"trainer.devices={devices} asks for more processes than this machine has processors ({processors()}); set"
            f" trainer.devices={processors()}"
        )
    if cpu and devices * nodes > 1 and getattr(trainer.strategy, "process_group_backend", None) == "nccl":
        raise ConfigError(
            "NCCL connects GPUs, and this run is on the CPU; leave out trainer.strategy.process_group_backend, or set"
            " it to gloo"
        )
    for name, size in batch_sizes.items():
        if size < devices * nodes:
            raise ConfigError(
                f"data.{name}={size} leaves some of {devices * nodes} devices without an image; set it to"
                f" {devices * nodes} or more, or use fewer devices"
            )


def refuse_machines_without_launcher(trainer: L.Trainer) -> None:
    """ConfigError for several machines without a launcher: this process would wait for the others forever."""
    nodes, devices = trainer.num_nodes, trainer.num_devices
    if nodes == 1 or _launcher() is not None or all(name in os.environ for name in BY_HAND):
        return
    raise ConfigError(
        f"trainer.num_nodes={nodes} needs a launcher on each machine, but this process was started without one; start"
        " it with"
        f" torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-id=1"
        f" --rdzv-endpoint=FIRST_MACHINE:29500 train.py ..., or in a SLURM job with srun --nodes={nodes}"
        f" --ntasks-per-node={devices} python train.py ... (see docs/scale.md)"
    )


def _check_launcher(devices: int, nodes: int) -> None:
    launcher = _launcher()
    if launcher is None or launcher.world_size() == devices * nodes:
        return
    name = "torchrun" if isinstance(launcher, TorchElasticEnvironment) else "srun"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", launcher.world_size()))
    raise ConfigError(
        f"{name} started {launcher.world_size()} processes, but trainer.devices={devices} times"
        f" trainer.num_nodes={nodes} is {devices * nodes}; with {local} of them on each machine, set trainer.devices="
        f"{local} trainer.num_nodes={launcher.world_size() // local}"
    )


# when one of them ends -----------------------------------------------------------------------------------------------


def rank_zero_failed_too() -> bool:
    """Wait for rank 0 to report the same failure; True if it did, so that this rank stays silent."""
    failed = f"vaezoo/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/failed"
    if is_rank_zero():
        if _stores:
            _stores[0].set(failed, "")
        return False
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if os.getppid() != starter() or (_stores and _stores[0].check([failed])):
                return True
        except DistError:  # the process that hosts the store has ended
            return True
        time.sleep(0.1)
    return False


@contextmanager
def watching(
    trainer: L.Trainer,
    on_lost: Callable[[str], int],
    is_asked: Callable[[], object],
    take_over: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """End this process if another one is lost for which it could wait forever.

    Rank 0 watches the processes that Lightning started from it, and they watch rank 0. When one has ended, this process
    has ``PATIENCE`` seconds to fail by itself; torch's connection errors then become RunError. Otherwise it calls
    ``on_lost`` with one sentence and exits with the returned code. It does not wait if ``is_asked`` returns true,
    because the run is stopping. ``take_over`` is called repeatedly: it stops whatever else would end this process for
    the same reason, before a summary is written.
    """
    watch = _Watch(trainer, on_lost, is_asked, take_over)
    if trainer.world_size > 1:
        watch.start()
    before = os.environ.get(STARTED_BY)
    os.environ[STARTED_BY] = str(os.getpid())
    try:
        yield
    except DistError as error:
        raise RunError(watch.lost_sentence()) from error
    except RuntimeError as error:
        if trainer.world_size == 1 or not _of_connection(error):
            raise
        raise RunError(watch.lost_sentence()) from error
    finally:
        watch.over.set()
        os.environ.pop(STARTED_BY)
        if before is not None:
            os.environ[STARTED_BY] = before


def _of_connection(error: RuntimeError) -> bool:
    """Whether this is gloo's error for a lost process; it has no class of its own."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited", "gloo/")
    return any(word in str(error) for word in words)


class _Watch(threading.Thread):
    def __init__(
        self,
        trainer: L.Trainer,
        on_lost: Callable[[str], int],
        is_asked: Callable[[], object],
        take_over: Callable[[], None],
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.trainer, self.on_lost, self.is_asked, self.over = trainer, on_lost, is_asked, threading.Event()
        self.take_over = take_over
        self.has_starter = not is_rank_zero() and _launcher() is None

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.take_over()
            if self.lost() is not None:
                if not self.over.wait(0.2 if self.is_asked() else PATIENCE):
                    code = 1
                    try:
                        code = self.on_lost(self.lost_sentence())
                    finally:
                        os._exit(code)
                return

    def lost(self) -> str | None:
        """A clause that names the lost process, if it was started by Lightning; None if there is none."""
        started = getattr(self.trainer.strategy.launcher, "procs", ())
        for place, process in enumerate(started, start=1):
            code = process.poll()
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                return f"the process of rank {place} {how}"
        if self.has_starter and os.getppid() != starter():
            return "the first process has ended"
        return None

    def lost_sentence(self) -> str:
        """A sentence for the user. Waits up to a second, because a connection breaks before its process has ended."""
        until = time.monotonic() + (0 if _launcher() else 1)
        while (lost := self.lost()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return f"{lost or 'another process of this run has ended'}, and the others cannot continue without it"
