"""Two processes are never at work in one folder, and no lock outlives its owner."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vaezoo import Run
from vaezoo.config.errors import RunError
from vaezoo.runs import locks


def holding(folder: Path) -> int:
    """Another process that holds the folder: its number."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        with locks.held(folder):
            os.write(writable, b"!")
            signal.pause()
    os.read(readable, 1)
    os.close(readable)
    os.close(writable)
    return child


def end(process: int, number: int = signal.SIGKILL) -> None:
    os.kill(process, number)
    os.waitpid(process, 0)


def test_a_folder_in_use_is_refused_with_its_owners_process_and_host(tmp_path: Path) -> None:
    owner = holding(tmp_path)
    try:
        with pytest.raises(RunError, match=f"process {owner} on host {socket.gethostname()} since 20"):
            locks.refuse_if_held(tmp_path)
        with pytest.raises(RunError, match=f"in use by process {owner}"), locks.held(tmp_path):
            pass
    finally:
        end(owner)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    end(holding(tmp_path))
    assert "process" in (tmp_path / locks.LOCK).read_text()  # it could not say that it ended
    locks.refuse_if_held(tmp_path)
    with locks.held(tmp_path):
        pass
    assert (tmp_path / locks.LOCK).read_text() == ""


def test_a_forked_process_does_not_keep_the_lock_of_one_that_ended(tmp_path: Path) -> None:
    with locks.held(tmp_path):
        hears, tells = os.pipe()
        worker = os.fork()
        if not worker:
            os.write(tells, b"!")
            signal.pause()
        os.read(hears, 1)
        with pytest.raises(RunError, match="in use"):
            locks.refuse_if_held(tmp_path)
    try:
        locks.refuse_if_held(tmp_path)
    finally:
        end(worker)


def test_where_there_are_no_locks_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with locks.held(tmp_path):
        assert "cannot be locked (No locks available)" in caplog.text


def test_a_run_in_use_is_neither_begun_nor_gone_on_with_nor_evaluated(
    train: Callable[..., Run], program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    run = train("run", "evaluation=none")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != locks.LOCK}
    owner = holding(run.path)
    try:
        for command in (
            ("train", f"resume={run.path}"),
            ("train", f"run_dir={run.path}"),
            ("evaluate", str(run.path), "quick=true"),
        ):
            code, printed = program(*command)
            assert code == 1
            assert f"run_dir={run.path} is in use by process {owner}" in printed
            assert "Traceback" not in printed
    finally:
        end(owner)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_lock_that_was_left_behind_does_not_make_a_folder_taken(
    program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    end(holding(tmp_path / "run"))
    short = ["model.widths=[8]", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "evaluation=none"]
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *short)
    assert code == 0, printed
