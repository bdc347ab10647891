"""vaezoo with its defaults: ``train.py`` with only the settings of the load, and a callback that measures."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from vaezoo.distributed import threads
from yardstick.loads import Job
from yardstick.processes import TRAIN, read_job


def main() -> None:
    threads.sleep_when_idle_if_busy()  # before torch is imported, as train.py does
    import vaezoo.commands.train  # noqa: F401 - what train.py imports, so that it does not count as data and model
    from yardstick.callbacks import PROFILED, WARM_UP
    from yardstick.measurement import measure

    job = read_job()
    if "steps" in job:  # for profile_step.py: as many epochs as the steps take
        steps = {"trainer.max_epochs": 10_000, "trainer.max_steps": WARM_UP + job["steps"] + PROFILED}
        run_train(job, steps, "StepClock", out=job["out"], steps=job["steps"], trace=job["trace"])
    else:
        measure(train)


def train(job: Job) -> dict[str, float]:
    run_train(job, {"trainer.max_epochs": 1 + job["epochs"]}, "Stopwatch", out="laps.json")
    return {"images": job["images"] * job["epochs"], **json.loads(Path("laps.json").read_text())}


def run_train(job: Job, length: dict[str, int], callback: str, **options: Any) -> None:
    """Run ``train.py`` in this process, with a callback and without the evaluation that follows training."""
    given = ", ".join(f"{name}: {json.dumps(value)}" for name, value in options.items())
    length = length if job["threads"] is None else {**length, "threads": job["threads"]}
    sys.argv = [
        TRAIN,
        *job["settings"],
        "run_dir=run",
        *(f"{name}={value}" for name, value in length.items()),
        f"trainer.accelerator={'gpu' if job['device'] == 'cuda' else 'cpu'}",
        "evaluation=none",
        "test=false",
        f"+callbacks.measurement={{_target_: yardstick.callbacks.{callback}, {given}}}",
    ]
    runpy.run_path(TRAIN, run_name="__main__")


if __name__ == "__main__":
    main()
