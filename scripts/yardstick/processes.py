"""Processes that are measured, each alone so that none shares memory or caches with another; and busy ones."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaezoo.config.errors import VaezooError

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent
TRAIN = str(ROOT / "train.py")

IMPORT = "import torch, lightning"
END = "end.json"
NOTE_END = f"import json, time; json.dump(time.time(), open('{END}', 'w'))"
FIRST_STEP = f"+callbacks.first_step={{_target_: yardstick.callbacks.FirstStep, out: {END}}}"
COMMANDS = {
    "import hydra": ('python -c "import hydra"', ["-c", "import hydra"]),
    "list": ("vaezoo list", ["-m", "vaezoo.commands.command_line", "list"]),
    "help": ("python train.py --help", [TRAIN, "--help"]),
    "imported": (f'python -c "{IMPORT}", until both are imported', ["-c", f"{IMPORT}; {NOTE_END}"]),
    "import torch, lightning": (f'python -c "{IMPORT}", until the process has ended', ["-c", IMPORT]),
    "first step": ("python train.py, until the first optimiser step", [TRAIN, "run_dir=run", FIRST_STEP]),
}
"""Titles and arguments of commands whose start-up is timed, by their names in records. They are timed until they write
the time of day to END, if they do, or else until they have ended: an interpreter takes a second to end with torch."""

SPINNER = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Computes until the process that started it has ended."""


class ChildError(VaezooError):
    """A process ended without a result."""


def run(module: str, job: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """The result that ``yardstick.MODULE`` writes; ChildError with the last line it printed if there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, out = Path(scratch, "job.json"), Path(scratch, "result.json")
        asked.write_text(json.dumps({**job, "out": str(out)}))
        done = _python(["-m", f"yardstick.{module}", str(asked)], scratch, threads)
        if not out.is_file():
            printed = (done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"]
            raise ChildError(f"{module} ended with code {done.returncode}: {printed[-1].strip()[:300]}")
        result: dict[str, Any] = json.loads(out.read_text())
        return result


def read_job() -> dict[str, Any]:
    """The job that this process was started with."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return job


def time_command(name: str, threads: int | None) -> dict[str, float]:
    """Seconds that a command takes to start."""
    title, arguments = COMMANDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        end = Path(scratch, END)
        started = time.time()
        done = _python(arguments, scratch, threads)
        ended = time.time()
        if done.returncode or (END in " ".join(arguments) and not end.is_file()):
            raise ChildError(f"{title} ended with code {done.returncode} before it was measured")
        return {"seconds": (float(end.read_text()) if end.is_file() else ended) - started}


def _python(arguments: list[str], folder: str, threads: int | None) -> "subprocess.CompletedProcess[str]":
    """Run Python in a folder, with this clone's modules first and so many threads for torch."""
    paths = [str(SCRIPTS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep ``count`` processes of one thread each computing meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", SPINNER, str(os.getpid())]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
