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
from yardstick import children
from yardstick.loads import LOADS, check_data, choose, make_job
from yardstick.options import Parser, add_place, check_whole


def main(words: Sequence[str] | None = None) -> int:
    """The code of exit."""
    try:
        run(read(words))
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read(words: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for; ConfigError if it cannot be."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_place(parser)
    parser.add_argument("--load", default="mnist-mlp", help=", ".join(LOADS))
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps to measure")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write a trace for chrome://tracing")
    asked = parser.parse_args(words)
    choose([asked.load], tuple(LOADS), "load")
    check_whole(asked, "steps", "threads")
    if asked.out is not None and not asked.out.absolute().parent.is_dir():
        raise RunError(
            f"cannot write to --out {asked.out}: there is no folder {asked.out.absolute().parent}; create it"
        )
    return asked


def run(asked: argparse.Namespace) -> None:
    """Train, and show where the time went."""
    from yardstick import machine, tables

    machine.check_device(asked.device)
    load = LOADS[asked.load]
    check_data(load, asked.data_root)
    with tempfile.TemporaryDirectory() as scratch:
        job = make_job(
            load,
            "vaezoo",
            device=asked.device,
            threads=asked.threads,
            quick=False,
            folder=Path(scratch),
            root=asked.data_root,
        ).plain()
        children.run("material", job, asked.threads)
        trace = str(asked.out.absolute()) if asked.out is not None else None
        epochs = 10_000  # as many as the steps take
        asked_for = {"steps": asked.steps, "trace": trace, "epochs": epochs}
        found = children.run("stepping", {**job, **asked_for}, asked.threads)
    for table in tables_of(found):
        table.show()
    print(tables.machine_line(machine.describe(asked.device, asked.threads)))
    if asked.out is not None:
        print(f"trace written to {asked.out}")


def tables_of(found: dict[str, Any]) -> "list[Any]":
    """Shares of a step, and operators."""
    from yardstick.tables import Table

    steps, total = found["steps"], sum(found["seconds"].values())
    rows: list[tuple[str, ...]] = [
        (name, f"{1000 * seconds / steps:.3f}", f"{100 * seconds / total:.1f}")
        for name, seconds in found["seconds"].items()
    ]
    rows.append(("all", f"{1000 * total / steps:.3f}", "100.0"))
    if found["device_ms"]:
        rows.append(("GPU time in the same period", f"{found['device_ms']:.3f}", ""))
    where = "GPU" if found["device_ms"] else "processor"
    operators: list[tuple[str, ...]] = [
        (one["name"][:70], f"{one['ms']:.3f}", f"{one['calls']:.1f}") for one in found["operators"]
    ]
    return [
        Table(f"One optimiser step, mean of {steps:,}", ("", "ms", "%"), rows),
        Table(
            f"Operators by self time on the {where}, under the profiler",
            ("", "ms per step", "calls per step"),
            operators,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
