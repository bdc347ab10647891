"""Training speed compared with a hand-written loop and other frameworks: python scripts/throughput.py [--device cuda].

Each measurement runs in its own process, one at a time; in each turn every contestant is measured once, and ratios
compare measurements of the same turn. The output is throughput.json (all measurements), .md (the tables), .png and
.svg. The exit code is 1 if a requested measurement failed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError, DataError, RunError, VaezooError
from yardstick import children, start
from yardstick.busy import spinning
from yardstick.contestants import CONTESTANTS, missing
from yardstick.loads import LOADS, Job, check_data, check_room, choose, make_job
from yardstick.options import Parser, add_place, check_whole
from yardstick.spreads import Measurement
from yardstick.targets import SECONDS, START, judge

BY_DEFAULT = [name for name, contestant in CONTESTANTS.items() if contestant.by_default]


def main(words: Sequence[str] | None = None) -> int:
    """The code of exit."""
    try:
        return run(read(words))
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def read(words: Sequence[str] | None) -> argparse.Namespace:
    """What the command line asks for; ConfigError if it cannot be."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_place(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loads", nargs="+", metavar="LOAD", default=[*LOADS, START], help=", ".join([*LOADS, START]))
    parser.add_argument("--contestants", nargs="+", metavar="NAME", default=BY_DEFAULT, help=", ".join(CONTESTANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/throughput"))
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="measure while N other processes are busy")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps each, to check that everything works; the numbers are meaningless",
    )
    asked = parser.parse_args(words)
    check_whole(asked, "repeats", "threads")
    if asked.busy < 0:
        raise ConfigError(f"--busy must be a number of processes, got {asked.busy}")
    asked.loads = choose(asked.loads, (*LOADS, START), "load")
    asked.contestants = choose(asked.contestants, tuple(CONTESTANTS), "contestant")
    return asked


def run(asked: argparse.Namespace) -> int:
    """Measure, write and show all that is asked for."""
    from yardstick import machine, tables  # torch, which a mistake on the command line need not wait for

    machine.check_device(asked.device)
    available = machine.available_bytes(asked.device)
    for name in asked.loads:
        if name in LOADS and available is not None:
            check_room(LOADS[name], asked.device, machine.parameters(LOADS[name]), available)
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to --out {asked.out}: {error.strerror}; choose another") from error
    about = {**machine.describe(asked.device, asked.threads), "busy": asked.busy}
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch, spinning(asked.busy):
        measurements = list(measure_all(asked, Path(scratch)))
    verdicts = judge(measurements, asked.device, quick=asked.quick)
    found = tables.all_tables(measurements, verdicts, asked.device)
    write(asked, about, measurements, found, [verdict.plain() for verdict in verdicts])
    for table in found:
        table.show()
    print(f"written to {asked.out}")
    lost = {one["failed"] for one in measurements if "failed" in one and not one["optional"]}
    for reason in sorted(lost):
        print(f"error: {reason}", file=sys.stderr)
    return 1 if lost else 0


def measure_all(asked: argparse.Namespace, scratch: Path) -> Iterator[Measurement]:
    """Load by load; within a load all contestants in turn, as often as is asked for."""
    for load in asked.loads:
        if load == START:
            yield from in_turns(asked, START, dict.fromkeys(start.COMMANDS))
            continue
        jobs = jobs_of(asked, load, scratch / load)
        reasons = {name: missing(CONTESTANTS[name]) for name in jobs}
        try:
            check_data(LOADS[load], asked.data_root)
            children.run("material", next(iter(jobs.values())).plain(), asked.threads)
        except (DataError, children.ChildError) as error:
            yield from (not_measured(load, name, str(error)) for name in jobs)
            continue
        yield from (not_measured(load, name, reason, optional=True) for name, reason in reasons.items() if reason)
        yield from in_turns(asked, load, {name: job for name, job in jobs.items() if reasons[name] is None})


def jobs_of(asked: argparse.Namespace, load: str, folder: Path) -> dict[str, Job]:
    """What each contestant that can run on the device is told."""
    folder.mkdir()
    names = [name for name in asked.contestants if asked.device in CONTESTANTS[name].devices]
    shared: dict[str, Any] = {"device": asked.device, "threads": asked.threads, "quick": asked.quick}
    return {name: make_job(LOADS[load], name, folder=folder, root=asked.data_root, **shared) for name in names}


def in_turns(asked: argparse.Namespace, load: str, jobs: dict[str, Job | None]) -> Iterator[Measurement]:
    """A, B, C, then A, B, C again."""
    for repeat in range(asked.repeats):
        for name, job in jobs.items():
            found = measure(name, job, asked.threads)
            said = found.get("failed") or _short(found)
            print(f"{load} {name} {repeat + 1}/{asked.repeats}: {said}", file=sys.stderr, flush=True)
            yield {"load": load, "contestant": name, "repeat": repeat, **found}


def measure(name: str, job: Job | None, threads: int | None) -> dict[str, Any]:
    """One measurement: of a contestant, or of a command's start if there is no job."""
    try:
        if job is None:
            return {SECONDS: start.measure(name, threads)}
        return children.run(CONTESTANTS[name].module, job.plain(), threads)
    except children.ChildError as error:
        return {"failed": str(error), "optional": False}


def not_measured(load: str, name: str, reason: str, *, optional: bool = False) -> Measurement:
    """What stands in the place of numbers."""
    return {"load": load, "contestant": name, "repeat": 0, "failed": reason, "optional": optional}


def write(
    asked: argparse.Namespace,
    about: dict[str, Any],
    measurements: Sequence[Measurement],
    found: Sequence[Any],
    verdicts: Sequence[dict[str, Any]],
) -> None:
    """All measurements, the tables and the chart, to the folder that was asked for."""
    from yardstick import chart, summary, tables

    record = {
        "machine": about,
        "quick": asked.quick,
        "repeats": asked.repeats,
        "measurements": measurements,
        "summary": summary.summarise(measurements),
        "targets": verdicts,
    }
    (asked.out / "throughput.json").write_text(json.dumps(record, indent=1) + "\n")
    caption = tables.machine_line(about)
    if asked.quick:
        caption = f"A smoke run of a few steps, whose numbers are meaningless. {caption}"
    parts = ["# Throughput", caption, tables.HOW, *(table.markdown() for table in found)]
    (asked.out / "throughput.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")
    chart.draw(measurements, caption, asked.out)


def _short(found: dict[str, Any]) -> str:
    speed = found.get("images_per_second")
    return f"{found[SECONDS]:.2f} s" if speed is None else f"{speed:,.0f} images/s"


if __name__ == "__main__":
    sys.exit(main())
