"""Whatever is typed: no traceback, no success of nonsense, no hang, and nothing written elsewhere."""

import faulthandler
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from tests.commands.wrong_lines import QUICK, SMALL, Line, applied, benchmarks, every_leaf, lines, priors
from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.commands import command_line
from vaezoo.config.errors import ConfigError, DataError

Program = Callable[..., tuple[int, str]]

SEED = 11
SECONDS = 60
"""Within which a command line must end; most take less than one."""
TELLS = ("--help", "-h", "--cfg", "--version", "--hydra-help", "--info")
ELSEWHERE = (Path("/"), Path.home(), Path("/etc"), ROOT)
"""Folders in which nothing may appear."""


class TooSlow(BaseException):
    """Not an Exception, which a program may catch."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("sound") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["vaezoo", "train", f"run_dir={path}", *SMALL, "callbacks=none"])
        command_line.main()
    return path


pytestmark = pytest.mark.filterwarnings("default")  # a picture that is left out is a warning, and no failure


@pytest.fixture(autouse=True)
def one_process_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither downloads, nor processes that would run this test's own command line."""

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("several processes are not for this test")

    def offline(*_: object, **__: object) -> None:
        raise DataError("no network here; get one")

    launchers = "lightning.pytorch.strategies.launchers"
    monkeypatch.setattr(f"{launchers}.subprocess_script._SubprocessScriptLauncher.launch", refuse)
    monkeypatch.setattr(f"{launchers}.multiprocessing._MultiProcessingLauncher.launch", refuse)
    monkeypatch.setattr("vaezoo.data.downloads.fetch", offline)


@pytest.fixture
def attempt(
    sound: Path, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Line, int], str]:
    """Type a line in a folder of its own; returns what is wrong with what came of it, or nothing."""

    def run(line: Line, at: int) -> str:
        folder = tmp_path / str(at)
        here, own, out, home = (folder / name for name in ("here", "run", "out", "home"))
        here.mkdir(parents=True)
        home.mkdir()
        shutil.copytree(sound, own)
        words = [word.replace("RUN", str(own)).replace("OUT", str(out)) for word in line.words]
        monkeypatch.chdir(here)
        monkeypatch.setenv("HOME", str(home))
        before = _names(ELSEWHERE), _stamps(own)
        try:
            with _time_limit(), _state_put_back():
                code, printed = program(*words)
            wrong = _judged(line, words, code, printed, own, out, before[1])
        except TooSlow:
            wrong = f"took more than {SECONDS} s"
        except Exception as error:
            wrong = f"{type(error).__name__} came through: {str(error)[:300]}"
        if (after := _names(ELSEWHERE)) != before[0]:
            wrong += f"; wrote elsewhere: {after ^ before[0]}"
        found = [path for path in home.rglob("*") if not path.is_dir() and ".cache/wandb" not in path.as_posix()]
        if found and not any("HOME" in word or "~" in word for word in words):  # wandb itself logs to its cache
            wrong += f"; wrote into the home folder, which no word names: {found}"
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
        return wrong

    return run


def _judged(line: Line, words: Sequence[str], code: int, printed: str, own: Path, out: Path, before: Any) -> str:
    """What is wrong with the outcome of a line, or nothing."""
    if "Traceback" in printed:
        return f"a traceback: {printed[-600:]}"
    if code == 0:
        return "success of nonsense" if line.wrong else _missing(line, words, printed, own, out, before)
    errors = [text for text in printed.splitlines() if text.startswith("error: ")]
    if code == 2 and "usage:" in printed:
        return ""
    if code != 1 or not errors or (len(errors) > 1 and "-m" not in words):
        return f"exit code {code} with {len(errors)} errors: {printed[-300:]!r}"
    if len(errors[0]) > 1500:
        return f"an error of {len(errors[0]):,} letters: {errors[0][:100]}"
    status = Run(out).summary["status"] if (out / "config.yaml").exists() else "failed"
    return "" if status == "failed" or "-m" in words else f"refused, but {out.name} is {status}: {errors[0]}"


def _missing(line: Line, words: Sequence[str], printed: str, own: Path, out: Path, before: Any) -> str:
    """What a command that succeeded has not done."""
    if any(word.startswith(TELLS) for word in words):
        return "" if printed.strip() else "told nothing"
    if line.command == "train" and "-m" not in words:
        run = own if any(word.startswith("resume=") and word != "resume=null" for word in words) else _written(out)
        summary = Run(run).summary
        if summary["status"] != "finished" or not summary["steps"] > 0:
            return f"success of a run that is {summary['status']} after {summary.get('steps')} steps"
    if line.command == "evaluate" and _stamps(own) == before:
        return "success without an evaluation"
    if line.command == "prior" and Run(own).mixture is None:
        return "success without a prior"
    if line.command == "export" and not list(own.parent.rglob("*.safetensors")):
        return "success without weights"
    if line.command == "compare" and not list(own.parent.rglob("report.html")):
        return "success without a report"
    return ""


def _written(out: Path) -> Path:
    """The folder of a run, wherever in the test's own folder it was put."""
    if out.exists():
        return out
    return next(path.parent for path in out.parent.rglob("summary.json") if path.parent.name != "run")


def _names(folders: Sequence[Path]) -> set[str]:
    caches = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".git", ".cache")
    return {str(child) for folder in folders for child in folder.iterdir() if child.name not in caches}


def _stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"}


class _time_limit:
    """Raise TooSlow in the main thread after ``SECONDS``; end the process where even that does not help."""

    def __enter__(self) -> None:
        def late(*_: object) -> None:
            raise TooSlow

        signal.signal(signal.SIGALRM, late)
        signal.alarm(SECONDS)
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True, file=sys.__stderr__)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


class _state_put_back:
    """What settings may change for a whole process."""

    def __enter__(self) -> None:
        self.environment = dict(os.environ)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False)
        torch.set_default_dtype(torch.float32)
        GlobalHydra.instance().clear()


def try_all(tried: Sequence[Line], attempt: Callable[[Line, int], str]) -> None:
    """Type all lines; what is wrong is gathered, so that one failure does not hide the next."""
    wrong, seconds = {}, Counter[str]()
    for at, line in enumerate(tried):
        started = time.monotonic()
        if said := attempt(line, at):
            wrong[" ".join(word if len(word) < 200 else f"{word[:50]}..." for word in line.words)] = said
        seconds[line.command] += int(1000 * (time.monotonic() - started))
    print(f"{len(tried)} lines: {dict(Counter(line.command for line in tried))}, milliseconds: {dict(seconds)}")
    assert not wrong, f"{len(wrong)} of {len(tried)} lines:\n" + "\n".join(
        f"{key!r}: {said}" for key, said in wrong.items()
    )


def test_a_few_wrong_lines(attempt: Callable[[Line, int], str]) -> None:
    try_all(lines(SEED, 20), attempt)


@pytest.mark.nightly
def test_a_thousand_wrong_lines(attempt: Callable[[Line, int], str]) -> None:
    seed = int(os.environ.get("VAEZOO_FUZZ_SEED", SEED + 1))
    try_all(lines(seed, int(os.environ.get("VAEZOO_FUZZ_LINES", 1000))), attempt)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "values", [("abc", "nan", "1e300"), ("null", "[]", "{}"), ("-1", "0", str(2**63 - 1))], ids=str
)
def test_each_setting_with_each_of_some_values(values: Sequence[str], attempt: Callable[[Line, int], str]) -> None:
    try_all(list(every_leaf(values)), attempt)


def test_a_few_wrong_lines_of_a_prior(attempt: Callable[[Line, int], str]) -> None:
    try_all(priors(SEED, 12), attempt)


@pytest.mark.nightly
def test_wrong_lines_of_a_prior(attempt: Callable[[Line, int], str]) -> None:
    try_all(priors(SEED + 1, 200), attempt)


def test_a_few_wrong_lines_of_a_trained_model(attempt: Callable[[Line, int], str]) -> None:
    try_all(applied(SEED, 12), attempt)


@pytest.mark.nightly
def test_wrong_lines_of_a_trained_model(attempt: Callable[[Line, int], str]) -> None:
    try_all(applied(SEED + 1, 300), attempt)


@pytest.mark.nightly
def test_wrong_lines_of_a_benchmark(attempt: Callable[[Line, int], str]) -> None:
    try_all(benchmarks(SEED, 30), attempt)


def test_lines_are_the_same_for_a_seed_and_reach_every_group() -> None:
    assert lines(1, 50) == lines(1, 50)
    assert lines(1, 50) != lines(2, 50)
    words = [word for line in lines(3, 2000) for word in line.words]
    for group in ("model.", "data.", "trainer.", "callbacks.", "logger.", "seed", "run_dir", "optimized_metric"):
        assert any(word.lstrip("+~").startswith(group) and word not in (*SMALL, *QUICK) for word in words), group
