"""``vaezoo benchmark``: trains, evaluates and compares a grid of runs, and resumes it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vaezoo.benchmark import grid
from vaezoo.benchmark.display import Display, Stage
from vaezoo.benchmark.executor import Executor, StoppedError, Task
from vaezoo.benchmark.fairness import unequal_steps
from vaezoo.benchmark.folder import Folder, fraction
from vaezoo.benchmark.grid import Cell, Request
from vaezoo.benchmark.local_pool import Pool, child_options
from vaezoo.config import arguments
from vaezoo.distributed import interrupts
from vaezoo.runs.trust import OWN, packages_of, refuse_links
from vaezoo.runs.user_code import UserCode

PROGRAM = (sys.executable, "-m", "vaezoo")
"""Start of the command line of a benchmark's processes."""

LAST_LINES = 5

QUICK_AT_ONCE = 4
"""Largest number of quick evaluations in one process, whose imports take longer than one of them."""

USAGE = """vaezoo benchmark models=[ae,vae] out=DIR [seeds=[0,1,2]] [jobs=1] [experiment=NAME] [KEY=VALUE...]

Trains all models with all seeds for equally many optimiser steps, evaluates and compares them. It can be stopped at any
time: rerun the same command to resume, or add models, seeds or values to extend the benchmark.

  models=[ae,vae,beta_vae]     columns of the comparison (see vaezoo list)
  seeds=[0,1,2]                runs of each column
  out=DIR                      runs in DIR/COLUMN-seed_N, each with its benchmark.log; the report in DIR/report
  jobs=2                       number of parallel processes, which share the machine's threads and GPUs
  launcher=submitit_slurm      runs as SLURM jobs, jobs= in parallel, by default all at once; out= must be a folder
                               visible to all nodes. Settings are submitit's: launcher.partition=gpu
                               launcher.timeout_min=60 launcher.gpus_per_node=1 launcher.cpus_per_task=4
  launcher=ray                 runs as Ray tasks: launcher.address=auto launcher.remote.num_gpus=1
  experiment=smoke             a preset; command-line settings take precedence
  model.beta=[1,4,16]          one column per value, for models with this setting; also as 1,4,16 or range(1,4)
  model.widths=[400]           a single value, since widths are a list; two values: [[400],[400,200]]
  'model.network=conv if model=vae'   a setting for some runs only: those that have the other one
  data.binarize=dynamic        any setting of vaezoo train, for all runs
  evaluate.k=100               any setting of vaezoo evaluate
  explore=true                 a page beside the report on which the models run in the browser (see vaezoo explore)
  compare.pdf=false            a report without PDF files, in half the time
  --config-dir=FOLDER          a folder with configs of your own, such as model/NAME.yaml
  packages=[NAME]              your own packages that contain parts of a model, unless the configs name them
"""


def main(words: Sequence[str]) -> int:
    """Run the command with these arguments; returns the exit code."""
    return arguments.run(words, USAGE, partial(_benchmark, words))


def _benchmark(words: Sequence[str]) -> int:
    try:
        with interrupts.cleaning_up():
            return _Benchmark(grid.read(words)).run()
    except (StoppedError, KeyboardInterrupt) as stop:
        print("stopped; rerun the same command to resume", file=sys.stderr)
        return stop.exit_code if isinstance(stop, StoppedError) else 130


@dataclass
class _Benchmark:
    request: Request
    failures: dict[str, tuple[str, int, Path]] = field(default_factory=dict)

    def run(self) -> int:
        launcher = _launcher(self.request)
        launcher.check()
        cells, folder = grid.read_cells(self.request), Folder(self.request.out)
        refuse_links(folder.path)
        folder.refuse_another(cells)
        done = [cell for cell in cells if folder.state(cell) == "finished" and folder.is_evaluated(cell.name)]
        gpus = _preflight(cells, self.request) if len(done) < len(cells) else []
        if gpus is None:
            return 1
        if all(cell.config["trainer"]["devices"] == 1 for cell in cells):
            launcher.share_gpus(gpus)
        with folder.locked() as descriptor:
            folder.refuse_another(cells)
            folder.write_plan(cells, self.request.evaluate)
            launcher.inherit = [descriptor]
            stages = [Stage("trained", "training", len(cells)), Stage("evaluated", "evaluation", len(cells))]
            with Display(stages) as display:
                launcher.wait_for_left_over([folder.log(cell.name) for cell in cells], display.say)
                finished = self._train(cells, folder, launcher, display)
                self._evaluate(finished, folder, launcher, display)
            compared = self._compare(finished, folder, descriptor)
        return self._conclude(cells, finished, folder, compared)

    def _train(self, cells: list[Cell], folder: Folder, launcher: Executor, display: Display) -> list[Cell]:
        """Train the unfinished runs; returns all finished ones."""
        stage = display.stages[0]
        pending = {cell.name: cell for cell in cells if folder.state(cell) != "finished"}
        tasks = [
            Task(name, (*PROGRAM, *_words(cell, folder, self.request.own)), folder.log(name))
            for name, cell in pending.items()
        ]
        fractions = {name: fraction(folder.run_dir(name), cell.config) for name, cell in pending.items()}
        kept = len(cells) - len(pending)
        stage.begin(kept, kept + sum(fractions.values()))
        if kept:
            display.say(f"{kept} of {len(cells)} runs are finished and kept")

        def ended(task: Task, code: int, seconds: float) -> None:
            finished = code == 0 and folder.state(pending[task.name]) == "finished"
            fractions[task.name] = 1.0
            self._record_ended(
                display, stage, task, seconds, kept + sum(fractions.values()), None if finished else code
            )

        def watch(running: Sequence[Task]) -> None:
            for task in running:
                fractions[task.name] = fraction(folder.run_dir(task.name), pending[task.name].config)
            display.update(stage, kept + sum(fractions.values()))

        launcher.run(tasks, ended, watch)
        return [cell for cell in cells if folder.state(cell) == "finished"]

    def _evaluate(self, finished: list[Cell], folder: Folder, launcher: Executor, display: Display) -> None:
        """Evaluate the finished runs that have not been evaluated yet."""
        stage = display.stages[1]
        stage.total = len(finished)
        pending = [cell for cell in finished if not folder.is_evaluated(cell.name)]
        before = {cell.name: folder.evaluated_at(cell.name) for cell in pending}
        size = self._at_once(len(pending), launcher)
        batches = {pending[at].name: pending[at : at + size] for at in range(0, len(pending), size)}
        tasks = [Task(name, self._evaluation(cells, folder), folder.log(name)) for name, cells in batches.items()]
        stage.begin(len(finished) - len(pending), len(finished) - len(pending))

        def ended(task: Task, code: int, seconds: float) -> None:
            batch, done = [cell.name for cell in batches[task.name]], stage.done + len(batches[task.name])
            for name in batch:
                failed = code != 0 and folder.evaluated_at(name) == before[name]
                if not failed:
                    folder.mark_evaluated(name)
                one = Task(name, task.command, task.log)
                self._record_ended(display, stage, one, seconds / len(batch), done, code if failed else None)

        launcher.run(tasks, ended, lambda running: display.update(stage, stage.done))

    def _at_once(self, pending: int, launcher: Executor) -> int:
        """Number of runs that a process evaluates: some if evaluations are quick, but no fewer processes than jobs."""
        quick = "quick=true" in self.request.evaluate
        return max(1, min(QUICK_AT_ONCE, -(-pending // (launcher.limit or pending or 1)))) if quick else 1

    def _evaluation(self, cells: Sequence[Cell], folder: Folder) -> tuple[str, ...]:
        run_dirs = [str(folder.run_dir(cell.name)) for cell in cells]
        return (*PROGRAM, "evaluate", *run_dirs, *self.request.evaluate, *_packages(cells, self.request.own))

    def _record_ended(
        self, display: Display, stage: Stage, task: Task, seconds: float, done: float, failure: int | None
    ) -> None:
        """Show that a run has completed a stage, and record its exit code if it failed."""
        if failure is not None:
            self.failures[task.name] = (stage.title, failure, task.log)
        stage.ended += 1
        display.update(stage, done)
        display.print_ended(stage, task.name, seconds, failed=failure is not None)

    def _compare(self, finished: list[Cell], folder: Folder, descriptor: int) -> bool:
        """Compare all finished runs on this machine; returns whether a report was written."""
        if not finished:
            return False
        run_dirs = [str(folder.run_dir(cell.name)) for cell in finished]
        command = (
            *PROGRAM,
            "compare",
            *run_dirs,
            f"out={folder.path / 'report'}",
            *self.request.compare,
            *_packages(finished, self.request.own),
        )
        task = Task("compare", command, folder.path / "compare.log")

        def ended(task: Task, code: int, seconds: float) -> None:
            if code != 0:
                self.failures["the comparison"] = ("made", code, task.log)

        Pool(1, inherit=[descriptor]).run([task], ended)
        return "the comparison" not in self.failures

    def _conclude(self, cells: list[Cell], finished: list[Cell], folder: Folder, compared: bool) -> int:
        """Print a summary with the log of each failure; returns the exit code."""
        steps = {cell.name: folder.steps(cell.name) for cell in finished}
        if sentence := unequal_steps(steps, {cell.name: cell.config for cell in cells}):
            print(f"note: {sentence}")
        for name, (title, code, log) in self.failures.items():
            print(f"{name} could not be {title} (exit code {code}); {log} ends with:")
            print(*(f"    {line}" for line in _last_lines(log)), sep="\n")
        if compared:
            print(f"{len(finished)} of {len(cells)} runs are compared in {folder.path / 'report'}")
        if not self.failures:
            return 0
        count = len(self.failures)
        print(
            f"error: {count} of the benchmark's processes failed; fix the cause and rerun the same command",
            file=sys.stderr,
        )
        return 1


def _words(cell: Cell, folder: Folder, added: UserCode) -> tuple[str, ...]:
    """Arguments of ``vaezoo train`` that start or resume a run. Deletes the record of a run without checkpoint."""
    run_dir = "'" + str(folder.run_dir(cell.name)).replace("'", "\\'") + "'"
    if folder.state(cell) == "half done":
        return ("train", f"resume={run_dir}", *_packages([cell], added))
    folder.clear(cell)
    return ("train", *cell.overrides, f"run_dir={run_dir}")


def _packages(cells: Sequence[Cell], added: UserCode) -> list[str]:
    """The setting packages=[...] for the classes in these configs, which are trusted: the user's command named them."""
    own = sorted({name for cell in cells for name in packages_of(cell.config)} | set(added.packages) - set(OWN))
    return [f"packages=[{','.join(own)}]"] if own else []


def _launcher(request: Request) -> Executor:
    """The launcher that runs the tasks."""
    if request.launcher == "local":
        return Pool(request.jobs or 1)
    if request.launcher == "ray":
        from vaezoo.benchmark.on_ray import Ray

        return Ray(request.out, request.jobs, request.launcher_settings)
    from vaezoo.benchmark.on_slurm import Slurm

    return Slurm(request.out, request.jobs, request.launcher_settings)


def _preflight(cells: Sequence[Cell], request: Request) -> list[str] | None:
    """Check all configs in a subprocess, which imports torch; returns the GPU indices, or None after an error."""
    command = [sys.executable, "-m", "vaezoo.benchmark.preflight"]
    elsewhere = request.launcher != "local"
    configs = [cell.config for cell in cells]
    message = json.dumps({"configs": configs, "evaluate": request.evaluate, "elsewhere": elsewhere})
    done = subprocess.run(command, input=message, stdout=subprocess.PIPE, text=True, **child_options(os.environ))
    if done.returncode != 0:
        return None
    return [str(index) for index in range(json.loads(done.stdout.splitlines()[-1])["gpus"])]


def _last_lines(log: Path) -> list[str]:
    output = ("\n" + log.read_text(errors="replace")).rpartition("\n$ ")[2]  # of the last command in the log
    lines = [line.rstrip() for line in output.splitlines()[1:] if line.strip()]
    return lines[-LAST_LINES:]
