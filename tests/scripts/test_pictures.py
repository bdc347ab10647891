"""The scripts that draw the documentation's pictures."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import page_picture
import readme_picture
from vaezoo import Run


def test_planes_are_drawn_with_how_far_their_codes_reach(
    train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = [train(name, f"model={name}", "model.latent_dim=2", "trainer.max_epochs=1") for name in ("ae", "vae")]
    monkeypatch.setattr(
        sys, "argv", ["readme_picture.py", str(tmp_path / "planes.png"), *(str(of.path) for of in trained)]
    )
    readme_picture.main()
    printed = capsys.readouterr().out.splitlines()
    for run, line in zip(trained, printed, strict=True):
        loader = run.data().val_dataloader()
        codes = torch.cat([run.model().encode(batch[0]) for batch in loader])
        far = codes.detach().norm(dim=1)
        assert line == f"{run.path}: codes up to {far.max():.1f} from the origin, half of them up to {far.median():.1f}"
    with Image.open(tmp_path / "planes.png") as found:
        assert found.width > 800
        assert found.height > 2 * 400


def test_a_page_is_photographed_once_it_is_ready(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not any(map(shutil.which, page_picture.BROWSERS)):
        pytest.skip("needs the browser: apt-get install chromium")
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><p id=state></p><script>setTimeout(() => { document.body.style.background = 'rgb(255, 0, 0)';"
        " document.documentElement.dataset.state = 'ready'; }, 300)</script>"
    )
    command = [sys.executable, page_picture.__file__, str(page), str(tmp_path / "page.png"), "--height", "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("page.html: 0.0 MB, ready after ")
    with Image.open(tmp_path / "page.png") as found:
        assert found.size == (page_picture.WIDTH, 300)
        assert found.convert("RGB").getpixel((900, 200)) == (255, 0, 0)
    done = subprocess.run([*command[:2], "none.html", *command[3:]], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: none.html does not exist")
