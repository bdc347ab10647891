"""Training speed compared with a hand-written loop and other frameworks: python scripts/throughput.py [--device cuda].

Each measurement runs in its own process, one at a time; in each turn every contestant is measured once, and ratios
compare measurements of the same turn. The output is throughput.json (all measurements), .md (the tables), .png and
.svg. The exit code is 1 if a requested measurement failed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError, DataError, RunError, VaezooError
from yardstick import processes, results
from yardstick.loads import (
    CONTESTANTS,
    LOADS,
    Job,
    Load,
    Parser,
    can_train,
    check_data,
    check_positive,
    choose,
    find,
    make_job,
    missing,
    of_model,
)
from yardstick.results import START, Measurement


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    try:
        return run(parse(arguments))
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ConfigError for a mistake."""
    loads, contestants = [*LOADS, START], list(CONTESTANTS)
    defaults = [name for name in contestants if CONTESTANTS[name].by_default]
    parser = Parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loads", nargs="+", metavar="LOAD", default=loads, help=", ".join(loads))
    parser.add_argument("--contestants", nargs="+", metavar="NAME", default=defaults, help=", ".join(contestants))
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="compare models of the zoo, trained by vaezoo, instead of contestants; `all` is every model",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/throughput"))
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="measure while N other processes are busy")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps each, to check that everything works; the numbers are meaningless",
    )
    options = parser.parse_args(arguments)
    check_positive(options, "repeats", "threads")
    if options.busy < 0:
        raise ConfigError(f"--busy must be a number of processes, got {options.busy}")
    options.loads = choose(options.loads, loads, "load")
    if options.models is not None:
        options.contestants = choose_models(options)
        keep_trainable(options)
        return options
    chosen = choose(options.contestants, contestants, "contestant")
    options.contestants = [name for name in chosen if options.device in CONTESTANTS[name].devices]
    if not options.contestants:
        raise ConfigError(f"{', '.join(chosen)} cannot run on --device {options.device}; choose other contestants")
    keep_trainable(options, leave_out=options.loads == loads)
    return options


def keep_trainable(options: argparse.Namespace, leave_out: bool = False) -> None:
    """ConfigError for a load that none of the contestants can train, unless those are to be left out."""
    kept = [
        load
        for load in options.loads
        if load == START or any(can_train(LOADS[load], name) for name in options.contestants)
    ]
    if missing := [load for load in options.loads if load not in kept]:
        if not leave_out:
            allowed = LOADS[missing[0]].contestants
            remedy = "other loads" if allowed is None or options.models else f"from {', '.join(allowed)}"
            raise ConfigError(f"{', '.join(options.contestants)} cannot train {missing[0]}; choose {remedy}")
        options.loads = kept


def choose_models(options: argparse.Namespace) -> list[str]:
    """The contestants that are models of the zoo, on the loads that compare models; ConfigError for a mistake."""
    from vaezoo.config import hydra_config

    known = hydra_config.options("model")
    names = known if options.models == ["all"] else choose(options.models, known, "model")
    if options.loads == [*LOADS, START]:
        options.loads = ["mnist-mlp"]
    if START in options.loads:
        raise ConfigError(f"--models cannot be measured on the load {START!r}; choose from {', '.join(LOADS)}")
    return [of_model(name) for name in names]


def run(options: argparse.Namespace) -> int:
    """Measure, write and show all that is asked for."""
    from yardstick import measurement  # torch, which a mistake on the command line need not wait for

    measurement.check_device(options.device)
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch:
        jobs = {load: make_jobs(options, LOADS[load], Path(scratch)) for load in options.loads if load != START}
        for of_load in jobs.values():
            measurement.check_memory(next(iter(of_load.values())))
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write to --out {options.out}: {error.strerror}; choose another") from error
        machine = {**measurement.describe_machine(options.device, options.threads), "busy": options.busy}
        with processes.spinning(options.busy):
            measurements = list(measure_all(options, jobs))
    write(options, machine, measurements)
    print(f"written to {options.out}")
    reasons = {one["failed"] for one in measurements if "failed" in one and not one["optional"]}
    for reason in sorted(reasons):
        print(f"error: {reason}", file=sys.stderr)
    return 1 if reasons else 0


def make_jobs(options: argparse.Namespace, load: Load, scratch: Path) -> dict[str, Job]:
    """A job for each contestant."""
    folder = scratch / load.name
    folder.mkdir()
    place = {"device": options.device, "threads": options.threads, "folder": folder, "root": options.data_root}
    names = [name for name in options.contestants if can_train(load, name)]
    return {name: make_job(load, name, **place, quick=options.quick) for name in names}


def measure_all(options: argparse.Namespace, jobs: Mapping[str, Mapping[str, Job]]) -> Iterator[Measurement]:
    """Measure load by load; a contestant or load that cannot be measured gives its reason instead."""
    for load in options.loads:
        if load == START:
            commands = {name: partial(processes.time_command, name, options.threads) for name in processes.COMMANDS}
            yield from in_turns(options, load, commands)
            continue
        try:
            check_data(load, options.data_root)
            processes.run("loads", next(iter(jobs[load].values())), options.threads)
        except (DataError, processes.ChildError) as error:
            yield from (not_measured(load, name, str(error)) for name in jobs[load])
            continue
        reasons = {name: missing(name) for name in jobs[load]}
        yield from (not_measured(load, name, reason, optional=True) for name, reason in reasons.items() if reason)
        entrants = {
            name: partial(processes.run, find(name).module, job, options.threads)
            for name, job in jobs[load].items()
            if reasons[name] is None
        }
        yield from in_turns(options, load, entrants)


def in_turns(
    options: argparse.Namespace, load: str, entrants: Mapping[str, Callable[[], dict[str, Any]]]
) -> Iterator[Measurement]:
    """Measure A, B, C, then A, B, C again."""
    for repeat in range(options.repeats):
        for name, measure in entrants.items():
            try:
                found = measure()
                speed = found.get(results.SPEED)
                text = f"{found['seconds']:.2f} s" if speed is None else f"{speed:,.0f} images/s"
            except processes.ChildError as error:
                found, text = {"failed": str(error), "optional": False}, str(error)
            print(f"{load} {name} {repeat + 1}/{options.repeats}: {text}", file=sys.stderr, flush=True)
            yield {"load": load, "contestant": name, "repeat": repeat, **found}


def not_measured(load: str, name: str, reason: str, *, optional: bool = False) -> Measurement:
    return {"load": load, "contestant": name, "repeat": 0, "failed": reason, "optional": optional}


def write(options: argparse.Namespace, machine: dict[str, Any], measurements: Sequence[Measurement]) -> None:
    """Write all measurements, the tables and the chart to --out, and show the tables."""
    verdicts = results.judge(measurements, options.device, quick=options.quick)
    record = {
        "machine": machine,
        "quick": options.quick,
        "repeats": options.repeats,
        "measurements": measurements,
        "summary": results.summaries(measurements),
        "targets": verdicts,
    }
    (options.out / "throughput.json").write_text(json.dumps(record, indent=1, default=asdict) + "\n")
    caption = results.machine_line(machine)
    if options.quick:
        caption = f"A smoke run of a few steps, whose numbers are meaningless. {caption}"
    tables = results.tables(measurements, verdicts, options.device)
    parts = ["# Throughput", caption, results.EXPLANATION, *(table.markdown() for table in tables)]
    (options.out / "throughput.md").write_text("\n\n".join(parts) + "\n")
    results.draw(measurements, caption, options.out)
    for table in tables:
        table.show()


if __name__ == "__main__":
    sys.exit(main())
