"""A card for a hub says what was measured; a model goes to a hub and comes back as it was, or it is said why not."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import vaezoo
from tests.documents import PAGES, blocks
from tests.hub_stub import TOKEN, Hub, running
from vaezoo import Run
from vaezoo.commands import command_line
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.models import hub as addresses

huggingface_hub = pytest.importorskip("huggingface_hub", reason='needs pip install -e ".[hub]"')

Program = Callable[..., tuple[int, str]]
TRAINED = ("model=beta_vae", "model.beta=2.5", "model.widths=[16]", "data.limit=200", "trainer.max_steps=3", "seed=4")
OVERRIDES = (*TRAINED, "callbacks=none", "evaluation=none")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.root.handlers", [])
        patch.setattr(
            "sys.argv", ["vaezoo", "train", f"run_dir={path}", "callbacks=none", "evaluation=none", *OVERRIDES]
        )
        command_line.main()
    return Run(path)


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "model"
    words = ["vaezoo", "export", str(run.path), f"out={folder}", "card=true", "licence=MIT"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit, match="0"):
            command_line.main()
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with a token for it, and a cache of downloads of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def test_a_card_says_what_was_measured_and_how_it_was_trained(exported: Path, run: Run) -> None:
    assert {path.name for path in exported.iterdir()} == {
        *("model.safetensors", "model.json", "README.md"),
        *("reconstructions.png", "samples.png", "interpolations.png"),
    }
    card = huggingface_hub.ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.license, card.data.model_name) == ("vaezoo", "mit", "BetaVAE on digits")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["elbo"] == pytest.approx(run.summary["test"]["elbo"], abs=1e-6)
    assert "as measured at the end of training, without intervals" in card.text
    assert all(f"]({name}.png)" in card.text for name in ("reconstructions", "samples", "interpolations"))
    [command] = re.findall(r"```bash\n(.*)\n```", card.text)
    words = set(shlex.split(command))
    assert {
        "model=beta_vae",
        "data=digits",
        "model.beta=2.5",
        "data.limit=200",
        "trainer.max_steps=3",
        "seed=4",
    } <= words


def test_metrics_of_an_evaluation_have_intervals(run: Run, program: Program, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    number = {"value": -100.0, "se": 1.0, "n": 60}
    evaluation = {"metrics": {"elbo": number, "active_units": {"value": 3, "n": 60}}, "settings": {"images": 60}}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))
    code, printed = program("export", str(tmp_path / "run"), f"out={tmp_path / 'out'}", "card=true")
    assert code == 0, printed
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| elbo ↑ | −100.0 ± 2.0 | nats per image | 60 |" in text
    assert "| active_units  | 3 | dimensions | 60 |" in text
    code, printed = program("export", str(tmp_path / "run"), f"out={tmp_path / 'out'}", "card=true")
    assert (code, "already exists" in printed) == (1, True)


def test_a_model_goes_to_the_hub_and_comes_back(
    exported: Path, run: Run, hub: Hub, program: Program, tmp_path: Path
) -> None:
    code, printed = program("push", str(exported), "repo=me/digits")
    assert code == 0, printed
    assert 'vaezoo.load("hf://me/digits")' in printed
    assert hub.repos["me/digits"].keys() >= {"README.md", "model.safetensors", "model.json", "samples.png"}
    model = vaezoo.load("hf://me/digits")
    x, _ = run.data().examples(4, "test")
    assert type(model).__name__ == "BetaVAE"
    assert torch.equal(model.encode(x), run.model().encode(x))
    assert {path.name for path in (tmp_path / "cache").rglob("*.*") if path.is_symlink()} == {
        "model.safetensors",
        "model.json",
    }
    code, printed = program("encode", "hf://me/digits", f"out={tmp_path / 'x.csv'}")
    assert (code, "needs images=FOLDER or FILE with exported weights" in printed) == (1, True)
    code, printed = program("render", "hf://me/digits", "what=sample", "count=2", f"out={tmp_path / 'x.png'}")
    assert code == 0, printed


def test_the_python_of_the_documentation_loads_it(exported: Path, hub: Hub) -> None:
    hub.repos["me/digits"] = {name: (exported / name).read_bytes() for name in ("model.safetensors", "model.json")}
    [block] = [block for page in PAGES for block in blocks(PAGES[page], "python", "hf://")]
    names: dict[str, Any] = {}
    exec(block.replace("OWNER/NAME", "me/digits"), names)
    assert names["model"].latent_dim == 10


def test_other_files_of_a_repository_are_not_loaded(exported: Path, hub: Hub) -> None:
    files = {name: (exported / name).read_bytes() for name in ("model.safetensors", "model.json")}
    hub.repos["me/evil"] = {
        **files,
        "model.json": files["model.json"].replace(b"vaezoo.models", b"os.path"),
        "x.pkl": b"",
    }
    with pytest.raises(RunError, match=r"asks for the class os\.path"):
        vaezoo.load("hf://me/evil")
    hub.repos["me/changed"] = {**files, "model.safetensors": files["model.safetensors"][:-1] + b"x"}
    with pytest.raises(RunError, match="is the card of other weights"):
        vaezoo.load("hf://me/changed")
    hub.repos["me/two"] = {**files, "other.safetensors": files["model.safetensors"]}
    with pytest.raises(RunError, match=r"several models; add one of model\.safetensors, other\.safetensors"):
        vaezoo.load("hf://me/two")
    assert vaezoo.load("hf://me/two/model.safetensors").latent_dim == 10
    hub.repos["me/none"] = {"README.md": b""}
    with pytest.raises(RunError, match="me/none has no weights as safetensors"):
        vaezoo.load("hf://me/none")


def test_without_access_there_is_one_sentence(
    exported: Path, hub: Hub, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.repos["private/model"] = {}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, printed = program("push", str(exported), "repo=me/digits")
    assert code == 1
    assert "there is no me/digits on the hub that you may write; check its name, and set HF_TOKEN" in printed
    for repo in ("private/model", "me/nowhere"):
        with pytest.raises(RunError, match=f"there is no {repo} on the hub that you may read"):
            vaezoo.load(f"hf://{repo}")
    (tmp_path / "empty").mkdir()
    for words, said in {
        (str(exported), "repo=digits"): "a model on the hub is called OWNER/NAME, got 'digits'",
        (str(exported),): "needs the folder of an export and repo=OWNER/NAME",
        (str(tmp_path / "empty"), "repo=me/x"): "is no export with a card; write one: vaezoo export RUN",
    }.items():
        code, printed = program("push", *words)
        assert (code, "Traceback" in printed) == (1, False)
        assert said in printed


def test_a_hub_that_does_not_answer_is_said(free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RunError, match="the hub cannot be reached to read me/digits"):
        vaezoo.load("hf://me/digits")


def test_addresses_are_read() -> None:
    assert addresses.parse("hf://me/a.b") == ("me/a.b", None, None)
    assert addresses.parse("hf://me/a@v1/x.safetensors") == ("me/a", "v1", "x.safetensors")
    for wrong in ("hf://me", "hf:///a", "hf://me/a b"):
        with pytest.raises(ConfigError, match="is called OWNER/NAME"):
            addresses.parse(wrong)


def test_a_missing_package_is_named_with_its_extra(
    run: Run, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (
        ("push", str(tmp_path), "repo=me/x"),
        ("export", str(run.path), f"out={tmp_path / 'out'}", "card=true"),
    ):
        code, printed = program(*words)
        assert code == 1
        assert 'needs the package huggingface_hub; to install it: pip install -e ".[hub]"' in printed
    assert not list(tmp_path.iterdir())
