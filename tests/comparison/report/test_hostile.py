"""A comparison of runs from strangers: what their records say is shown as text, or the run is left out."""

import json
import os
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import some
from vaezoo import Run
from vaezoo.commands.compare import main
from vaezoo.comparison import check, gather, group, unranked
from vaezoo.comparison.report import build
from vaezoo.comparison.report.curves import clock
from vaezoo.comparison.report.exports import as_csv, as_latex, as_markdown
from vaezoo.comparison.report.tables import tables

HTML = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(1)</script>\"'><a href=javascript:alert(1)>$\\frac{$|`\x1b[2J"


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attributes}))


def assert_harmless(page: str) -> None:
    elements = Elements(page).found
    assert [tag for tag, _ in elements].count("script") == 1  # our own
    for _, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))


def replaced(node: Any, kinds: tuple[type, ...], value: Any) -> Any:
    """The same record with another value wherever it had one of these kinds."""
    if isinstance(node, dict):
        return {name: replaced(child, kinds, value) for name, child in node.items()}
    if isinstance(node, list):
        return [replaced(child, kinds, value) for child in node]
    return value if type(node) in kinds else node


def spoil(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def test_names_of_classes_and_texts_of_records_are_text_in_the_page(train: Callable[..., Run], tmp_path: Path) -> None:
    for name in (HTML, "b & <b>$_{"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for at in range(30):
            pixels = np.random.default_rng(at).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"{at}.png")
    data = ["data=image_folder", f"data.root='{tmp_path / 'images'}'", "data.image_size=8", "data.channels=1"]
    run = train("run", *data, "data.limit=40", "data.val_size=8", "data.test_size=12", "model.latent_dim=2")
    texts = ("objective", "model", "likelihood")
    more: dict[str, Any] = {**dict.fromkeys(texts, SCRIPT), "environment": {SCRIPT: HTML}}
    spoil(run.path / "summary.json", lambda found: found | more | {"data": found["data"] | {"name": SCRIPT}})
    spoil(run.path / "summary.json", lambda found: found | {"objective": "=cmd"})
    metrics = {"elbo": {"value": None, "reason": SCRIPT}, "psnr": {"value": 1.0, "n": SCRIPT, SCRIPT: SCRIPT}}
    references = {SCRIPT: {"metrics": {"psnr": {"value": 3.0}, "mse": {"value": HTML}}}}
    evaluation = {"schema": 1, "metrics": metrics, "settings": {SCRIPT: SCRIPT}, "references": references}
    (run.path / "evaluation.json").write_text(json.dumps(evaluation | {"checkpoint": SCRIPT}))
    (run.path / "metrics.csv").write_text(f"step,{HTML}\n1,{HTML}\n")
    assert not build([run.path], tmp_path / "out", pdf=False)
    page = (tmp_path / "out" / "report.html").read_text()
    assert_harmless(page)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page  # the class in the key
    assert HTML not in (tmp_path / "out" / "report.md").read_text()
    assert "<script" not in (tmp_path / "out" / "report.md").read_text()
    assert r"\frac" not in (tmp_path / "out" / "table.tex").read_text()
    assert "\n=cmd" not in (tmp_path / "out" / "table.csv").read_text().replace(",", "\n")


@pytest.mark.parametrize(
    "value",
    some([None, [], HTML, 1e308, 10**400, float("nan"), True, {"a": {"b": 1}}], 2, of=8),
    ids=lambda value: repr(value)[:9],
)
def test_records_with_other_values_are_left_out_or_shown(
    value: Any, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of value at once, in each of the records, and each part of a record by itself."""
    monkeypatch.setattr("vaezoo.comparison.records._of_model", lambda *_: ((), None))  # its checkpoint is sound
    path = tmp_path / "run"
    shutil.copytree(runs / "beta-0", path, ignore=shutil.ignore_patterns("figures", "events*"))
    sound = {name: json.loads((path / name).read_text()) for name in ("summary.json", "evaluation.json")}
    config = yaml.safe_load((path / "config.yaml").read_text())
    for name, content in sound.items():
        changed = [replaced(content, kinds, value) for kinds in ((str,), (int, float), (dict,))]
        changed += [content | {key: value} for key in content]
        changed += [content | {"metrics": {"psnr": value}}, value]
        for each in changed:
            each = each | {"status": "finished"} if isinstance(each, dict) and name == "summary.json" else each
            (path / name).write_text(json.dumps(each))
            shown(path)
        (path / name).write_text(json.dumps(content))
    for key in ("model", "data", "trainer", "callbacks"):
        (path / "config.yaml").write_text(yaml.safe_dump(config | {key: value}))
        shown(path)


def shown(path: Path) -> None:
    records, refused = gather([path])
    assert len(records) + len(refused) == 1
    for refusal in refused:
        assert refusal.reason.isprintable()
    groups = group(records)
    found = [table for each in groups for table in tables(each, unranked(check(each)))]
    for table in found:
        as_markdown(table)
    as_csv(groups)
    as_latex([(each.name, table) for each in groups for table in found[:1]])


@pytest.mark.parametrize("content", [b"", b"nothing of TensorBoard's", b"\xff" * 1000, None])
def test_times_are_missing_where_their_file_is_another_thing(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    assert clock(tmp_path) is None


def test_a_folder_of_a_stranger_is_named_without_its_control_characters(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tmp_path / "\x1b[2Jevil\n"
    shutil.copytree(runs / "beta-0", evil)
    (evil / "summary.json").write_text("[" * 100_000)
    assert main([str(evil), f"out={tmp_path / 'out'}"]) == 1
    said = capsys.readouterr().err
    assert "\\x1b[2Jevil\\n/summary.json cannot be read" in said
    assert "\x1b" not in said
    assert said.count("\n") == 1
