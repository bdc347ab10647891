"""Trains with the step clock, in a separate process."""

import tempfile
from pathlib import Path

from yardstick.product import train
from yardstick.readings import read_job
from yardstick.step_clock import PROFILED, WARM_UP


def main() -> None:
    job = read_job()
    steps = job["steps"]
    with tempfile.TemporaryDirectory() as scratch:
        options = {"out": job["out"], "steps": steps, **({"trace": job["trace"]} if job["trace"] else {})}
        callbacks = {"step_clock": ("yardstick.step_clock.StepClock", options)}
        train(job, Path(scratch, "run"), callbacks, f"trainer.max_steps={WARM_UP + steps + PROFILED}")


if __name__ == "__main__":
    main()
