"""How long commands take to start, beside the imports that they cannot do without."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yardstick.children import ROOT, ChildError, environment

COMMANDS = {
    "import hydra": ["-c", "import hydra"],
    "list": ["-m", "vaezoo.cli", "list"],
    "help": [str(ROOT / "train.py"), "--help"],
    "import torch, lightning": ["-c", "import torch, lightning"],
    "first step": [
        str(ROOT / "train.py"),
        "run_dir={scratch}/run",
        "+callbacks.first._target_=yardstick.stopwatch.FirstStep",
        "+callbacks.first.out={scratch}/first.json",
    ],
}
"""What is started, by the name it has in tables; of the last the time to its first optimiser step counts."""

ABOUT = {
    "import hydra": 'python -c "import hydra"',
    "list": "vaezoo list",
    "help": "python train.py --help",
    "import torch, lightning": 'python -c "import torch, lightning"',
    "first step": "python train.py, until the first optimiser step",
}


def measure(name: str, threads: int | None) -> float:
    """Seconds from the command to its end, or to its first optimiser step; ChildError if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [word.format(scratch=scratch) for word in COMMANDS[name]]
        started = time.time()
        done = subprocess.run(
            [sys.executable, *words], cwd=scratch, env=environment(threads), capture_output=True, text=True
        )
        ended = time.time()
        if done.returncode:
            raise ChildError(f"{ABOUT[name]} ended with code {done.returncode}")
        first = Path(scratch, "first.json")
        return (json.loads(first.read_text()) if first.is_file() else ended) - started
