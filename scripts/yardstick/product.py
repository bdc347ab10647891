"""vaezoo with its defaults: ``train.py`` with only the settings of the load, and a stopwatch callback."""

import json
import runpy
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from vaezoo.distributed import threads

TRAIN = Path(__file__).resolve().parent.parent.parent / "train.py"


def main() -> None:
    threads.sleep_when_idle_if_busy()  # before torch is imported, as train.py does
    from yardstick.readings import imported_bytes, read_job, write_result

    job = read_job()
    import_module(
        "vaezoo.commands.train"
    )  # what train.py imports anyway, so that its memory can be told from data and model
    imported = imported_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        laps = Path(scratch, "laps.json")
        train(job, Path(scratch, "run"), callbacks={"stopwatch": ("yardstick.stopwatch.Stopwatch", {"out": str(laps)})})
        found = json.loads(laps.read_text())
    write_result(job, images=job["images"] * job["epochs"], imported=imported, **found)


def train(job: dict[str, Any], run_dir: Path, callbacks: dict[str, tuple[str, dict[str, Any]]], *more: str) -> None:
    """Run ``train.py`` in this process. What comes after training is left out: it is not measured."""
    sys.argv = [str(TRAIN), *arguments(job, run_dir, callbacks), *more]
    runpy.run_path(str(TRAIN), run_name="__main__")


def arguments(job: dict[str, Any], run_dir: Path, callbacks: dict[str, tuple[str, dict[str, Any]]]) -> list[str]:
    """The words behind ``python train.py``."""
    words = [*job["settings"], f"run_dir='{run_dir}'", f"trainer.max_epochs={1 + job['epochs']}"]
    words += [] if job["threads"] is None else [f"threads={job['threads']}"]
    words += [f"trainer.accelerator={'gpu' if job['device'] == 'cuda' else 'cpu'}", "evaluation=none", "test=false"]
    for name, (target, options) in callbacks.items():
        words.append(f"+callbacks.{name}._target_={target}")
        words += [f"+callbacks.{name}.{key}={_quoted(value)}" for key, value in options.items()]
    return words


def _quoted(value: Any) -> str:
    """A value as Hydra reads it."""
    return f"'{value}'" if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main()
