"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vaezoo.config.errors import RunError
from vaezoo.runs import files


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_process_killed_while_it_writes_leaves_the_file_of_before(call: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_text(path, "before")
    child = os.fork()
    if not child:
        setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        files.write_text(path, "after")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_text() == "before"
    assert files.temporary_path(path).exists()
    files.write_text(path, "after")
    assert path.read_text() == "after"
    assert not files.temporary_path(path).exists()


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths))[1])
    files.write_text(tmp_path / "file", "text")
    assert done == ["fsync", "replace", "fsync"]  # the last one is the folder's


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_full_or_fails_is_one_sentence_and_leaves_the_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write_half() -> None:
        with files.replacing(path) as new:
            new.write_text("half of it")
            raise OSError(number, os.strerror(number))

    with pytest.raises(RunError, match=f"cannot write {path}: .*free space on that disk"):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_are_let_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.replacing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "no")


def test_a_row_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n3,")
    names, rows, torn = files.read_rows(path)
    assert (names, rows, torn) == (["a", "b"], [{"a": "1", "b": "2"}], True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB, on which a small run has room for two checkpoints or so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=300k tmpfs '{folder}' 2>/dev/null"):
        pytest.skip("needs the right to mount a file system in memory")
    yield folder
    os.system(f"umount -l '{folder}'")


def test_a_run_on_a_full_disk_fails_in_one_sentence_and_goes_on_when_there_is_room(
    small_disk: Path, program: Callable[..., tuple[int, str]]
) -> None:
    run = small_disk / "run"
    small = ["model.widths=[16]", "callbacks=none", "callbacks.last.min_seconds=0", "data.limit=128"]
    settings = [*small, "trainer.max_epochs=9", "evaluation=none", "resume=auto"]
    code, printed = program("train", f"run_dir={run}", *settings)
    assert code == 1
    assert printed.count("No space left on device") == 1
    assert f"error: cannot write {run}/checkpoints/" in printed
    assert "Traceback" not in printed
    assert '"status": "failed"' in (run / "summary.json").read_text()
    assert not list(run.rglob("*.new"))
    assert os.system(f"mount -o remount,size=9m '{small_disk}'") == 0
    code, printed = program("train", f"run_dir={run}", *settings)
    assert code == 0, printed
    assert "epoch 1 " not in printed  # it went on from what was there
