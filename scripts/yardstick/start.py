"""Start-up times of commands, compared with the imports that they need."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yardstick.children import ROOT, ChildError, environment

TRAIN = str(ROOT / "train.py")
FIRST_STEP = "+callbacks.first_step"
IMPORT = "import torch, lightning"
NOTE = "import json, time; json.dump(time.time(), open('{end}', 'w'))"

COMMANDS = {
    "import hydra": ["-c", "import hydra"],
    "list": ["-m", "vaezoo.commands.command_line", "list"],
    "help": [TRAIN, "--help"],
    "imported": ["-c", f"{IMPORT}; {NOTE}"],
    "import torch, lightning": ["-c", IMPORT],
    "first step": [
        TRAIN,
        "run_dir='{run}'",
        f"{FIRST_STEP}._target_=yardstick.stopwatch.FirstStep",
        f"{FIRST_STEP}.out='{{end}}'",
    ],
}
"""What is started, by the name it has in records. One that writes the time of day to {end} is measured until then, the
others until the process has ended: to take an interpreter with torch down again costs a second, which a first step
has not paid and so must not be held against.
"""

ABOUT = {
    "import hydra": 'python -c "import hydra"',
    "list": "vaezoo list",
    "help": "python train.py --help",
    "imported": f'python -c "{IMPORT}", until both are imported',
    "import torch, lightning": f'python -c "{IMPORT}", until the process has ended',
    "first step": "python train.py, until the first optimiser step",
}


def measure(name: str, threads: int | None) -> float:
    """Seconds from the command to its end, or to what it noted itself; ChildError if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        end = Path(scratch, "end.json")
        words = [word.format(end=end, run=Path(scratch, "run")) for word in COMMANDS[name]]
        started = time.time()
        done = subprocess.run(
            [sys.executable, *words], cwd=scratch, env=environment(threads), capture_output=True, text=True
        )
        ended = time.time()
        if done.returncode or ("{end}" in " ".join(COMMANDS[name]) and not end.is_file()):
            raise ChildError(f"{ABOUT[name]} ended with code {done.returncode} before it was measured")
        return (float(json.loads(end.read_text())) if end.is_file() else ended) - started
