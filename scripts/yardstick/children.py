"""Separate processes for measurements, so that none shares memory or caches with another."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vaezoo.config.errors import VaezooError

SCRIPTS = Path(__file__).resolve().parent.parent
ROOT = SCRIPTS.parent


class ChildError(VaezooError):
    """A process ended without a result."""


def environment(threads: int | None) -> dict[str, str]:
    """This process's environment, with this clone's modules first and so many threads for torch."""
    paths = [str(SCRIPTS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    count = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **count}


def run(module: str, job: dict[str, Any], threads: int | None) -> dict[str, Any]:
    """What ``yardstick.MODULE`` finds of a job; ChildError with its last words if it finds nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, found = Path(scratch, "job.json"), Path(scratch, "result.json")
        asked.write_text(json.dumps({**job, "out": str(found)}))
        command = [sys.executable, "-m", f"yardstick.{module}", str(asked)]
        done = subprocess.run(command, cwd=scratch, env=environment(threads), capture_output=True, text=True)
        if not found.is_file():
            raise ChildError(f"{module} ended with code {done.returncode}: {_last_line(done.stderr or done.stdout)}")
        result: dict[str, Any] = json.loads(found.read_text())
        return result


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
