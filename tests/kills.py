"""Runs as real processes, to be killed, gone on with and compared. They are forked from one that has imported all.

As a program it is that process: it reads requests from its input, one JSON object a line, and answers on its output.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0


class Process:
    """A run of `vaezoo ...` in a session of its own; what it prints is added to ``log``."""

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self._nursery, self.pid, self.log = nursery, pid, log
        self._code: int | None = None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, -9 for one that was killed; AssertionError if it does not end in time."""
        until = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > until:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"still running after {seconds} s:\n{self.printed}")
            time.sleep(0.02)
        assert self._code is not None
        return self._code

    def end(self, seconds: float) -> None:
        """Leave it so long to end by itself, then kill it."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self._code is None:
            self._code = self._nursery.ask({"poll": self.pid})
        return self._code

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait_for(self, sentence: str, seconds: float = PATIENCE) -> None:
        """Wait until it has printed this; AssertionError if it has ended before, or has not done so in time."""
        until = time.monotonic() + seconds
        while sentence not in self.printed:
            assert self.poll() is None, self.printed
            assert time.monotonic() < until, self.printed
            time.sleep(0.02)

    @property
    def printed(self) -> str:
        """What it and those before it with the same log have printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Nursery:
    """The process that has imported all, and forks another one for each command."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, *arguments: str, log: Path, patch: str = "", **environment: str) -> Process:
        """Start `vaezoo ARGUMENTS` with a further environment, after the code ``patch`` has been run in its process."""
        log.parent.mkdir(parents=True, exist_ok=True)
        request = {"arguments": arguments, "log": str(log), "patch": patch, "environment": environment}
        return Process(self, self.ask(request), log)

    def run(self, *arguments: str, log: Path, **more: str) -> tuple[int, str]:
        """Run `vaezoo ARGUMENTS` to its end: its exit code, and what it printed."""
        before = len(log.read_text()) if log.exists() else 0
        process = self.start(*arguments, log=log, **more)
        code = process.wait()
        return code, process.printed[before:]

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it; what it has started goes on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def session(leader: int) -> dict[int, str]:
    """The processes of a session that have not ended, with their names: its leader and all that come of it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, _, number = tail.split()[:4]
        if int(number) == leader and state != "Z":
            found[int(path.parent.name)] = head.partition("(")[2]
    return found


def workers(leader: int) -> list[int]:
    """Those processes of a session that are workers of torch's DataLoader, by the name that it gives them."""
    return [process for process, name in session(leader).items() if name == "pt_data_worker"]


def ranks(nursery: Nursery, *arguments: str, log: Path, port: int, size: int = 2, patch: str = "") -> list[Process]:
    """One run in several processes on this machine, the first rank first, as a job's launcher starts them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "NODE_RANK": "0"}
    settings = (f"trainer.devices={size}", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    return [
        nursery.start(
            *arguments, *settings, log=log.with_suffix(f".{rank}.log"), patch=patch, LOCAL_RANK=str(rank), **shared
        )
        for rank in range(size)
    ]


def differences(one: Path, two: Path) -> list[str]:
    """In what two run folders differ that hold the same experiment, apart from times and places; [] if in nothing."""
    found = [f"{name} only in one" for name in sorted(_names(one) ^ _names(two))]
    for name in sorted(_names(one) & _names(two)):
        if name.endswith(".ckpt"):
            found += [f"{name}: {key}" for key in _different_weights(one / name, two / name)]
        elif name.endswith((".png", ".csv")) and (one / name).read_bytes() != (two / name).read_bytes():
            found.append(f"{name} differs")
    for name, keys in JSON.items():
        if (one / name).exists() and (two / name).exists():
            here, there = (json.loads((folder / name).read_text()) for folder in (one, two))
            found += [f"{name}: {key}" for key in keys if _untimed(here[key]) != _untimed(there[key])]
    here, there = _events(one), _events(two)
    found += [f"events: {tag}" for tag in sorted(here.keys() | there.keys()) if here.get(tag) != there.get(tag)]
    return found


JSON = {
    "summary.json": ("val", "test", "steps", "epochs", "status"),
    "evaluation.json": ("metrics", "vectors", "references"),
}
"""What is compared of these files: all but times and places."""


def _names(folder: Path) -> set[str]:
    """Files of a record, without those that other starts have other names or numbers of."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if "tfevents" not in name and not name.endswith(("previous.ckpt", ".log"))}


def _different_weights(one: Path, two: Path) -> list[str]:
    parts = ("state_dict", "optimizer_states", "current_model_state", "averaging_state", "lr_schedulers", "global_step")
    here, there = (torch.load(path, weights_only=True) for path in (one, two))
    return [part for part in parts if not _equal(here.get(part), there.get(part))]


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_equal, one, two))
    return bool(one == two)


def _untimed(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _untimed(value) for key, value in node.items() if "second" not in key and "memory" not in key}
    return node


def _events(folder: Path) -> dict[str, list[Any]]:
    """What TensorBoard's files hold, tag by tag, every event of it: its step and its number or picture."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, list[Any]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if "_hparams_" not in value.tag:
                    payload = value.tensor.SerializeToString() or value.simple_value
                    found.setdefault(value.tag, []).append((event.step, payload))
    return found


def serve() -> None:
    """Answer requests until the input ends. A forked process leaves this with the command's arguments to run it."""
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        os.setsid()
        interrupts._starter = os.getppid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request["environment"])
        sys.argv = ["vaezoo", *request["arguments"]]
        exec(request["patch"], {})
        return
    os._exit(0)


if __name__ == "__main__":
    from vaezoo.commands import command_line
    from vaezoo.distributed import interrupts

    torch.set_num_threads(1)
    serve()
    interrupts.run(command_line.main)
