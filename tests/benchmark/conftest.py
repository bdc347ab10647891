"""Benchmarks whose commands are played: they leave the files of the real ones at once."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vaezoo.benchmark import command

PLAY = '''
"""Commands that leave the files of the real ones at once; seed 13 fails, seed 14 takes long, 15 has no evaluation."""
import json, os, signal, sys, time
from pathlib import Path

name, words = sys.argv[1], sys.argv[2:]
if name == "train" and not REAL:
    from omegaconf import OmegaConf
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if "resume" in values:
        run = Path(values["resume"].strip("'"))
        print("resumed")
    else:
        from vaezoo.benchmark import grid
        run = Path(values["run_dir"].strip("'"))
        model, seed = f"models=[{values['model']}]", f"seeds=[{values['seed']}]"
        rest = [word for word in words if word.split("=")[0] not in ("model", "seed", "run_dir", "evaluation")]
        (cell,) = grid.read_cells(grid.read([model, seed, *rest, f"out={run.parent}"]))
        assert not (run / "config.yaml").exists()
        written = OmegaConf.to_yaml(cell.config).replace(cell.config["run_dir"], str(run))
        (run / "config.yaml").write_text(written)
    if values.get("seed") == "13":
        print("a line before\\nerror: thirteen is unlucky")
        sys.exit(1)
    print("threads", os.environ["OMP_NUM_THREADS"])
    if values.get("seed") == "14":
        print("begun", os.getpid(), flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("stopped cleanly")
            sys.exit(130)
    (run / "summary.json").write_text(json.dumps({"status": "finished", "steps": 10}))
elif name == "train":
    from vaezoo.commands.command_line import main
    main()
elif name == "evaluate":
    settings = [word for word in words if "=" in word]
    given = [Path(word) for word in words if "=" not in word]
    for run in given:
        if run.name.endswith("seed_15"):
            print(f"error: {run}: fifteen cannot be evaluated")
        else:
            (run / "evaluation.json").write_text(json.dumps({"settings": settings, "metrics": {}}))
    sys.exit(any(run.name.endswith("seed_15") for run in given))
elif name == "compare":
    out = Path(words[-1].removeprefix("out="))
    out.mkdir(exist_ok=True)
    (out / "table.csv").write_text("\\n".join(words[:-1]))
'''

DRIVER = """
import sys
from vaezoo.benchmark import command
command.PROGRAM = (sys.executable, {play!r})
command._preflight = lambda *_: []
sys.exit(command.main(sys.argv[1:]))
"""


@pytest.fixture
def play(tmp_path: Path) -> Path:
    path = tmp_path / "play.py"
    path.write_text(PLAY.replace("REAL", "False"))
    return path


@pytest.fixture
def benchmark(
    play: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command in this process with played commands below it: its exit code and what it said."""
    monkeypatch.setattr(command, "PROGRAM", (sys.executable, str(play)))
    monkeypatch.setattr(command, "_preflight", lambda *_: [])

    def run(*words: str) -> tuple[int, str]:
        code = command.main(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def start(play: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """The same in a process of its own, which can be killed; ``real`` trains in earnest."""
    started = []

    def run(*words: str, real: bool = False) -> "subprocess.Popen[str]":
        play.write_text(PLAY.replace("REAL", str(real)))
        driver = [sys.executable, "-c", DRIVER.format(play=str(play)), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(driver, text=True, env=environment, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
