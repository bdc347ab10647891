"""Profile an optimiser step: python scripts/profile_step.py [--load mnist-mlp] [--steps 200].

It trains as train.py does, with all features on. Times are measured on the host; times of operators come from torch's
profiler, in additional steps, since profiling slows the steps down.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaezoo.config.errors import RunError, VaezooError
from yardstick import processes
from yardstick.loads import LOADS, Parser, check_data, check_positive, choose, make_job
from yardstick.results import Table, machine_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    try:
        run(parse(arguments))
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ConfigError or RunError for a mistake."""
    parser = Parser(__doc__)
    parser.add_argument("--load", default="mnist-mlp", help=", ".join(LOADS))
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps to measure")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write a trace for chrome://tracing")
    options = parser.parse_args(arguments)
    choose([options.load], list(LOADS), "load")
    check_positive(options, "steps", "threads")
    if options.out is not None and not (folder := options.out.absolute().parent).is_dir():
        raise RunError(f"cannot write to --out {options.out}: there is no folder {folder}; create it")
    return options


def run(options: argparse.Namespace) -> None:
    """Train, and show where the time went."""
    from yardstick import measurement  # torch, which a mistake on the command line need not wait for

    measurement.check_device(options.device)
    load, device, threads = LOADS[options.load], options.device, options.threads
    check_data(load.name, options.data_root)
    with tempfile.TemporaryDirectory() as scratch:
        job = make_job(load, "vaezoo", device=device, threads=threads, folder=Path(scratch), root=options.data_root)
        processes.run("loads", job, threads)
        trace = str(options.out.absolute()) if options.out is not None else None
        found = processes.run("vaezoo_training", {**job, "steps": options.steps, "trace": trace}, threads)
    for table in tables(found):
        table.show()
    print(machine_line(measurement.describe_machine(device, threads)))
    if options.out is not None:
        print(f"trace written to {options.out}")


def tables(found: dict[str, Any]) -> tuple[Table, Table]:
    """Parts of a step, and operators."""
    steps, total = found["steps"], sum(found["seconds"].values())
    parts = [(name, 1000 * seconds / steps, 100 * seconds / total) for name, seconds in found["seconds"].items()]
    parts.append(("all", 1000 * total / steps, 100.0))
    rows = [(name, f"{ms:.3f}", f"{share:.1f}") for name, ms, share in parts]
    if found["device_ms"]:
        rows.append(("GPU time in the same period", f"{found['device_ms']:.3f}", ""))
    operators = [(one["name"][:70], f"{one['ms']:.3f}", f"{one['calls']:.1f}") for one in found["operators"]]
    title = f"Operators by self time on the {'GPU' if found['device_ms'] else 'processor'}, under the profiler"
    return (
        Table(f"One optimiser step, mean of {steps:,}", ("", "ms", "%"), rows),
        Table(title, ("", "ms per step", "calls per step"), operators),
    )


if __name__ == "__main__":
    sys.exit(main())
