"""A run whose records are damaged is one sentence, and costs the other runs of the command line nothing."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.comparison.report.test_hostile import shown
from tests.damage import RECORDS, Damage, damages
from vaezoo import Run
from vaezoo.commands import command_line

Program = Callable[..., tuple[int, str]]

QUICK = ("quick=true", "images=10", "train_images=10", "k=1", "bound_images=1", "samples=10", "pairs=2", "paths=1")
SAMPLE, MOST, SEED, PAGES = 2, 1000, 20, 40
SECONDS = 60


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with every record that there is."""
    path = tmp_path_factory.mktemp("sound") / "run"
    with pytest.MonkeyPatch.context() as patch:
        small = ["model.widths=[4]", "model.latent_dim=2", "trainer.max_steps=2", "data.limit=32", "callbacks=none"]
        patch.setattr("sys.argv", ["vaezoo", "train", f"run_dir={path}", *small, "callbacks=none", "evaluation=none"])
        command_line.main()
        patch.setattr("sys.argv", ["vaezoo", "evaluate", str(path), *QUICK, "steps=3"])
        with pytest.raises(SystemExit, match="0"):
            command_line.main()
    change = {"step": 1, "key": "model.optimizer.lr", "was": 0.1, "now": 0.001}
    (path / "changes.json").write_text(json.dumps([change]))
    return path


def chosen(run: Path, count: int) -> list[Damage]:
    """So many of the damages of each record, or all where there are fewer."""
    found, generator = damages(run), random.Random(SEED)
    by_record = {name: [each for each in found if each.record == name] for name in RECORDS}
    return [each for few in by_record.values() for each in generator.sample(few, min(count, len(few)))]


def one_sentence_or_none(code: int, printed: str) -> None:
    """Success without an error, or a failure with one error of one line and nothing of the program's inside."""
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed, printed
    assert (code, len(errors)) in ((0, 0), (1, 1)), printed


def evaluate_and_export(damage: Damage, sound: Path, folder: Path, program: Program) -> None:
    """Evaluate a damaged run before a sound one, which must be evaluated, and export it, which may leave no half."""
    damaged, other = folder / "damaged", folder / "other"
    for path in (damaged, other):
        shutil.copytree(sound, path)
    (damaged / damage.record).write_text(damage.text)
    (other / "evaluation.json").unlink()
    code, printed = program("evaluate", str(damaged), str(other), *QUICK, "steps=3")
    one_sentence_or_none(code, printed)
    assert Run(other).evaluation is not None, printed
    code, printed = program("export", str(damaged), f"out={folder / 'out' / 'model'}")
    one_sentence_or_none(code, printed)
    left = sorted(path.name for path in (folder / "out").iterdir()) if (folder / "out").exists() else []
    assert left == ([] if code else ["model.json", "model.safetensors"])


def compare(damage: Damage, sound: Path, folder: Path, program: Program, *, page: bool) -> None:
    """Compare a damaged run with a sound one: it is left out or its numbers are shown."""
    damaged = folder / "damaged"
    if not damaged.exists():
        shutil.copytree(sound, damaged)
        (damaged / damage.record).write_text(damage.text)
    shown(damaged)
    if page:
        code, printed = program("compare", str(damaged), str(sound), f"out={folder / 'report'}")
        assert code == 0, printed
        assert "Traceback" not in printed
        assert (folder / "report" / "report.html").is_file()


def run_all(found: list[Damage], sound: Path, tmp_path: Path, program: Program, pages: int) -> None:
    """All commands on each damage; what goes wrong is gathered, so that one failure does not hide the next."""
    wrong = {}
    paged = set(random.Random(SEED).sample(range(len(found)), min(pages, len(found))))
    for at, damage in enumerate(found):
        folder = tmp_path / str(at)
        folder.mkdir()
        started = time.monotonic()
        try:
            if damage.record not in ("evaluation.json", "mixture.json"):  # which neither of the two reads
                evaluate_and_export(damage, sound, folder, program)
            compare(damage, sound, folder, program, page=at in paged)
            assert time.monotonic() - started < SECONDS
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong[damage.name] = f"{type(error).__name__}: {str(error)[-400:]}"
        shutil.rmtree(folder)
    told = "\n".join(f"{name}: {reason}" for name, reason in wrong.items())
    assert not wrong, f"{len(wrong)} of {len(found)} damages:\n{told}"


def test_a_sample_of_damaged_records(sound: Path, tmp_path: Path, program: Program) -> None:
    run_all(chosen(sound, SAMPLE), sound, tmp_path, program, pages=1)


@pytest.mark.nightly
def test_every_damaged_record(sound: Path, tmp_path: Path, program: Program) -> None:
    run_all(chosen(sound, int(os.environ.get("VAEZOO_DAMAGES", MOST))), sound, tmp_path, program, pages=PAGES)


@pytest.mark.parametrize(
    ("record", "was", "now", "sentence"),
    [
        ("config.yaml", "\n  seed: 0", "\n  seed: abc", "data.seed must be int, got 'abc'"),
        ("config.yaml", "\n  seed: 0", "\n  seed: null", "data.seed must be int, got None"),
        ("config.yaml", "\n  batch_size: 32", "\n  batch_size: 0", "data.batch_size must be a whole number from 1 up"),
        ("summary.json", '"cost": {', '"cost": [], "x": {', "cost is not a mapping of names to values"),
        ("summary.json", '"seconds": ', '"seconds": "a", "x": ', "cost.seconds is not a number"),
        ("summary.json", '"seconds": ', '"seconds": NaN, "x": ', "cost.seconds is not a number"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_evaluated(
    record: str, was: str, now: str, sentence: str, sound: Path, tmp_path: Path, program: Program
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(sound, damaged)
    shutil.copytree(sound, tmp_path / "other")
    text = (damaged / record).read_text()
    assert was in text
    (damaged / record).write_text(text.replace(was, now, 1))
    (tmp_path / "other" / "evaluation.json").unlink()
    code, printed = program("evaluate", str(damaged), str(tmp_path / "other"), *QUICK, "steps=3")
    assert code == 1
    assert sentence in printed
    one_sentence_or_none(code, printed)
    assert Run(tmp_path / "other").evaluation is not None


def test_a_mistake_of_the_program_does_not_cost_the_other_runs(
    sound: Path, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        shutil.copytree(sound, tmp_path / name)
        (tmp_path / name / "evaluation.json").unlink()
    data = Run.data

    def fails_once(run: Run, **settings: object) -> object:
        if run.path.name == "first":
            raise ZeroDivisionError("a bug")
        return data(run, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "data", fails_once)
    code, printed = program("evaluate", str(tmp_path / "first"), str(tmp_path / "second"), *QUICK, "steps=3")
    assert code == 1
    assert "ZeroDivisionError: a bug" in printed  # which is not dressed up as the user's
    assert Run(tmp_path / "second").evaluation is not None
