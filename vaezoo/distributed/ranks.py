"""The processes of one run: what they agree on, whether they suit the machine. It knows no models.

They are started by Lightning, by torchrun or by SLURM, which say what each one is in the environment.
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
"""Tells the processes that Lightning starts where the one that started them writes."""

PATIENCE = 5.0
"""Seconds in which a process waits for another one to tell the same error, or to end by itself."""

BY_HAND = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What a user sets on each of several machines to have Lightning connect them without a launcher."""

_rounds = count()
_stores: list[TCPStore] = []


# what they agree on --------------------------------------------------------------------------------------------------


@contextmanager
def agreeing_on(run_dir: Path) -> Iterator[Path]:
    """The first process's run folder, in all of them: the name that each composes by itself has a time in it."""
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
        told: list[Any] = [str(run_dir)]
        torch.distributed.broadcast_object_list(told)
        return Path(told[0])
    launcher = _launcher()
    if launcher is None:
        return run_dir if is_rank_zero() else Path(os.environ.get(RUN_DIR, run_dir))
    store, key = _store(launcher), _key("run_dir")
    if is_rank_zero():
        store.set(key, str(run_dir.absolute()))
    return Path(store.get(key).decode())


def _launcher() -> ClusterEnvironment | None:
    """What has started several processes, if that was not Lightning."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment() if int(os.environ["WORLD_SIZE"]) > 1 else None
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and SLURMEnvironment.detect():
        return SLURMEnvironment()
    return None


def _store(launcher: ClusterEnvironment) -> TCPStore:
    """Where processes leave each other notes before they work together; it lives as long as this one."""
    if not _stores:
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
        address, port = launcher.main_address, launcher.main_port
        master = is_rank_zero() and not hosted
        _stores.append(TCPStore(address, port, is_master=master, wait_for_workers=False, multi_tenant=True))
    return _stores[0]


def _key(what: str) -> str:
    """A name for a note: of this run of this program, which torchrun may have started anew."""
    return f"vaezoo/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_rounds)}/{what}"


# whether they suit the machine and the batches -----------------------------------------------------------------------


def choose_devices(trainer: Any) -> None:
    """Fill in ``devices: auto`` of settings for several devices; ConfigError if they ask for more GPUs than there are.

    As many as a launcher has started; else all GPUs, or on the CPU two processes.
    """
    asked, there = str(trainer.devices), torch.cuda.device_count()
    wanted = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and there > 0)
    if asked == "auto" and trainer.strategy != "auto":
        launcher = _launcher()
        alone = there if wanted else min(2, processors())
        trainer.devices = alone if launcher is None else max(1, launcher.world_size() // int(trainer.num_nodes))
    if wanted and there and asked.isdigit() and int(asked) > there:
        raise ConfigError(
            f"trainer.devices={asked} asks for more GPUs than this machine has ({there}); set trainer.devices="
            f"{there}, or trainer.num_nodes for several machines"
        )


def check(trainer: L.Trainer, batch_sizes: dict[str, int]) -> None:
    """ConfigError where the processes of a run do not suit the machine, their launcher or the batches to share."""
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
    """ConfigError for several machines where nothing has started a process on the others, which would be waited for."""
    nodes, devices = trainer.num_nodes, trainer.num_devices
    if nodes == 1 or _launcher() is not None or all(name in os.environ for name in BY_HAND):
        return
    raise ConfigError(
        f"trainer.num_nodes={nodes} needs a launcher on each machine, but this process was started without one; start"
        " it with"
        f" torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-id=1"
        f" --rdzv-endpoint=FIRST_MACHINE:29500 train.py ..., or in a SLURM job with srun --nodes={nodes}"
        f" --ntasks-per-node={devices} python train.py ... (see docs/distributed.md)"
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
    """Whether the first process fails too, so that it alone should say why; what it is told by is waited for."""
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
        except DistError:  # who kept the notes is gone
            return True
        time.sleep(0.1)
    return False


@contextmanager
def watching(trainer: L.Trainer, on_lost: Callable[[str], int], is_asked: Callable[[], object]) -> Iterator[None]:
    """End this process if one is lost that it could wait for without end.

    The first process looks after those that Lightning has it start, and those after the first. When one is gone, this
    one has ``PATIENCE`` to find out by itself, since what it then raises is handled as any error; RunError takes the
    place of what torch says of the connection. Otherwise it tells ``on_lost``, and exits with the code that this
    returns. It does not wait if ``is_asked`` to stop.
    """
    watch = _Watch(trainer, on_lost, is_asked)
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
    """Whether this is what gloo says when another process has gone; it has no class of its own."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited", "gloo/")
    return any(word in str(error) for word in words)


def _dismiss_observer() -> None:
    """Take over from Lightning's thread, which kills this process within five seconds and leaves no record."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]


class _Watch(threading.Thread):
    def __init__(self, trainer: L.Trainer, on_lost: Callable[[str], int], is_asked: Callable[[], object]) -> None:
        super().__init__(name="watch", daemon=True)
        self.trainer, self.on_lost, self.is_asked, self.over = trainer, on_lost, is_asked, threading.Event()
        self.has_starter = not is_rank_zero() and _launcher() is None

    def run(self) -> None:
        while not self.over.wait(0.2):
            _dismiss_observer()
            if self.lost() is not None:
                if not self.over.wait(0.2 if self.is_asked() else PATIENCE):
                    code = 1
                    try:
                        code = self.on_lost(self.lost_sentence())
                    finally:
                        os._exit(code)
                return

    def lost(self) -> str | None:
        """Which process has ended too early, if any that Lightning started."""
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
        """What to tell; a connection breaks a moment before the process at its other end has ended."""
        until = time.monotonic() + (0 if _launcher() else 1)
        while (lost := self.lost()) is None and time.monotonic() < until:
            time.sleep(0.1)
        return f"{lost or 'another process of this run has ended'}, and the others cannot continue without it"
