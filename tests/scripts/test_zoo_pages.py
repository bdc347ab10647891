"""The pages of the zoo say what the stored numbers and the code say, and their commands can be run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import zoo_pages
from tests.documents import PAGES, blocks
from vaezoo import Run
from vaezoo.config import hydra_config
from vaezoo.models import VAE, BetaVAE
from yardstick.loads import train_config
from zoo import docstrings, formulas, pages, runs, settings

NAMES = hydra_config.options("model")
WRITTEN = ("families.md", "fitted_priors.md", "perceptual.md")
"""Pages that are written by hand."""
LESSON = runs.PAGES.parent / "learn.md"


def test_the_pages_are_made_from_the_stored_numbers_and_the_code() -> None:
    """If they are not: python scripts/zoo_pages.py write."""
    made = pages.pages()
    for path, text in made.items():
        assert path.read_text() == text, path.name
    assert {path.name for path in runs.PAGES.glob("*.md")} == {path.name for path in made} | set(WRITTEN)


def test_every_model_has_notes_numbers_and_a_family() -> None:
    notes = runs.notes()
    assert sorted(notes["presets"]) == NAMES
    assert sorted(name for family in notes["families"] for name in family["models"]) == NAMES
    assert sorted(path.stem for path in runs.PICTURES.glob("*.png")) == NAMES
    for name, preset in notes["presets"].items():
        assert preset.keys() <= {"when", "set", "pitfalls", "run"}, name
        assert all(preset[key].strip() for key in ("when", "set", "pitfalls")), name


def test_families_have_the_same_names_in_the_readme_and_the_reference() -> None:
    families = runs.notes()["families"]
    rows = re.findall(r"^\| ([a-z ]+) \| (\[`.*) \|$", PAGES["README.md"], re.MULTILINE)
    assert [(title.capitalize(), re.findall(r"`(\w+)`", row)) for title, row in rows] == [
        (family["title"], family["models"]) for family in families
    ]
    titles = re.findall("^### (.+)$", PAGES["docs/api.md"], re.MULTILINE)
    assert titles == [family["title"] for family in families]


def test_every_paper_of_a_model_is_known_by_its_title_and_every_known_one_is_cited() -> None:
    cited = {name: docstrings.described(pages.class_of(name)).papers for name in NAMES}
    assert all(cited.values())
    known = runs.notes()["papers"]
    assert {pages.authors(text) for papers in cited.values() for text in papers.split("; ")} == known.keys()
    for paper in known.values():
        assert paper["title"]
        assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\S+|https://openreview\.net/\S+|[A-Z].+", paper["where"])
    [text] = pages.papers("Jang et al., 2017; Maddison et al., 2017, equation 1")
    assert text.startswith(
        "Papers: *Categorical Reparameterization with Gumbel-Softmax* ([arXiv:1611.01144](https://arxiv"
    )


def test_settings_that_notes_advise_are_settings_of_the_model() -> None:
    for name, preset in runs.notes()["presets"].items():
        config = train_config([f"model={name}"])
        for path in re.findall(r"`'?((?:model|data)\.[a-z_.]+)", preset["set"]):
            found: Any = config
            for key in path.split("."):
                assert key in found, (name, path)
                found = found[key]


def test_a_page_has_the_rows_of_its_model() -> None:
    [row] = [row for row in pages.rows() if row.name == "iwae"]
    text = pages.page(row).partition("## Results")[2]
    assert (
        "- [The zoo on one network](../results.md#the-zoo-on-one-network), 3 seeds: `iw_bound` −102.53 ± 0.96, " in text
    )
    cost = r"^- \[What a step costs\]\(\S+\): [\d.]+.* times that of `vae`, and [\d.]+.* times on a busy machine$"
    assert re.search(cost, text, re.MULTILINE)
    assert "CIWAE" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small(name: str) -> None:
    path = runs.PICTURES / f"{name}.png"
    assert path.stat().st_size < 60_000
    with Image.open(path) as picture:
        picture.verify()


def run(block: str, run_dir: Path) -> dict[str, Any]:
    """The names that a block of Python has defined, with a run in place of RUN_DIR."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(block.replace("RUN_DIR", str(run_dir)), names)
    return names


def test_a_conditional_model_is_given_labels_as_on_the_page(train: Callable[..., Run]) -> None:
    [block] = blocks((runs.PAGES / "families.md").read_text(), "python", "given(y)")
    found = run(block, train("run", "model=conditional_vae").path)
    assert found["sevens"].shape == (16, 1, 16, 16)
    assert found["as_threes"].shape == (8, 1, 16, 16)


def test_a_mixture_is_sampled_from_as_on_the_page(train: Callable[..., Run], program: Callable[..., Any]) -> None:
    path = train("run", "model=ae").path
    code, printed = program("prior", str(path))
    assert code == 0, printed
    [block] = blocks((runs.PAGES / "fitted_priors.md").read_text(), "python", 'prior="mixture"')
    found = run(block, path)
    assert found["x"].shape == (16, 1, 16, 16)


def test_the_pictures_of_the_lesson_are_small() -> None:
    shown = re.findall(r"!\[.*?\]\((pictures/.*?)\)", LESSON.read_text())
    assert sorted(shown) == sorted(f"pictures/{path.name}" for path in (LESSON.parent / "pictures").glob("learn_*.png"))
    for name in shown:
        assert (LESSON.parent / name).stat().st_size < 150_000, name


# parts ---------------------------------------------------------------------------------------------------------------


def test_an_objective_is_set_with_its_weights() -> None:
    [text] = formulas.equations("recon + 1e-06 kl + 0.5 ratio generator (from 10% of the run on)").values()
    assert text.count("underbrace") == 3
    assert r"+ 10^{-6} \underbrace{\mathrm{KL}" in text
    assert r"+ 0.5 \rho" in text
    assert "%" not in text
    assert r"p(x \mid z, y)" in formulas.equations("recon + kl", of_labels=True)[""]
    assert list(formulas.equations("-log w; for the encoder -log w")) == ["the decoder and the prior", "the encoder"]


def test_an_unknown_word_in_an_objective_is_named() -> None:
    with pytest.raises(formulas.UnknownWordError, match="no symbol for 'surprise'"):
        formulas.equations("recon + 2 surprise")


@pytest.mark.parametrize("name", NAMES)
def test_every_term_of_an_objective_is_set_and_explained(name: str) -> None:
    """No name of a term is left over, brackets match, and nothing stands behind a backslash that Markdown would eat."""
    [row] = [row for row in pages.rows() if row.name == name]
    for text in formulas.equations(row.objective).values():
        assert text.count("{") == text.count("}")
        assert not re.search(r"\\[^A-Za-z]", text)
    named = set(re.findall(r"[a-z]\w*", row.objective)) & set(formulas.TERMS)
    assert named <= set(formulas.meanings(row.objective))


def test_a_docstring_becomes_markdown() -> None:
    about = docstrings.described(BetaVAE)
    assert about.sentence == "VAE with the KL term weighted by `beta`"
    assert about.papers == "Higgins et al., 2017"
    assert about.arguments[0] == "`beta`: final weight of the KL."
    assert docstrings.described(VAE).papers == "Kingma and Welling, 2014, equation 10"


def test_settings_have_their_defaults_and_comments_and_those_of_their_parents() -> None:
    table = settings.table_of_model("vqgan")
    assert "| `model.discriminator_options.weight` | `0.5` |" in table
    assert "| `model.commitment` | `0.25` | weight of the squared distance" in table
    assert settings.table_of_model("vae") == ""
    assert "| `model.beta` | `4.0` |" in settings.table_of_model("beta_vae")


def test_a_study_knows_its_models() -> None:
    [study] = [study for study in pages.written().values() if study["title"] == "A critic of codes"]
    assert pages.models_of(study) == {"ae", "adversarial_ae", "vae"}  # of an experiment's yaml


def test_an_unknown_model_and_a_missing_folder_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    assert zoo_pages.main(["train", "vae"]) == 1
    assert capsys.readouterr().err == "error: train needs --out DIR, a folder for the runs\n"
    assert zoo_pages.main(["write", "none"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no model 'none'; choose from adversarial_ae,")
    assert zoo_pages.main(["write", "vae", "--out", str(tmp_path)]) == 1
    assert "has no finished run; python scripts/zoo_pages.py train vae --out" in capsys.readouterr().err
