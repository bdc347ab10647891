"""The wheel is the whole program, wherever it is started."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation of the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def test_it_carries_every_config(unpacked: Path) -> None:
    ours = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    theirs = {path.relative_to(unpacked / "vaezoo/configs") for path in (unpacked / "vaezoo/configs").rglob("*.yaml")}
    assert ours == theirs
    assert not (unpacked / "tests").exists()


def test_it_carries_the_explorers_page_and_runtime_with_its_licence(unpacked: Path) -> None:
    for folder in ("templates", "onnxruntime_web"):
        names = {path.name for path in (ROOT / "vaezoo/explorer" / folder).iterdir()}
        assert {path.name for path in (unpacked / "vaezoo/explorer" / folder).iterdir()} == names
        assert len(names) > 4
    licences = [path.read_text() for path in unpacked.glob("*.dist-info/**/LICENSE")]
    assert any("Microsoft Corporation" in text for text in licences)


@pytest.mark.nightly
def test_it_trains_outside_of_the_repository(unpacked: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vaezoo.commands.command_line",
        "train",
        "model=beta_vae",
        "run_dir=run",
        "trainer.max_epochs=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
    where = "import vaezoo.config.hydra_config; print(vaezoo.config.hydra_config.CONFIGS)"
    configs = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert Path(configs.stdout.strip()) == unpacked / "vaezoo" / "configs"
