"""Tables of codes: the numbers of the model and of its evaluation, in every format, or one sentence and no file."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaezoo import Run
from vaezoo.evaluation import per_image
from vaezoo.metrics.bounds import elbo_terms
from vaezoo.runs import tables

Program = Callable[..., tuple[int, str]]
Made = Callable[..., Path]


@pytest.fixture
def encoded(program: Program, tmp_path: Path) -> Callable[..., tuple[dict[str, NDArray[Any]], str]]:
    """The arrays that `vaezoo encode` writes, and what it prints."""

    def run(source: Path, *words: str) -> tuple[dict[str, NDArray[Any]], str]:
        code, printed = program("encode", str(source), f"out={tmp_path / 'codes.npz'}", "overwrite=true", *words)
        assert code == 0, printed
        with np.load(tmp_path / "codes.npz") as arrays:
            return dict(arrays), printed

    return run


def test_rows_are_those_of_the_evaluation(made: Made, encoded: Callable[..., Any]) -> None:
    run = Run(made("vae"))
    arrays, printed = encoded(run.path)
    x, labels = run.data().examples(10_000, "test")
    recon, kl = elbo_terms(run.model(), x)
    with torch.no_grad():
        posterior = run.model().posterior(x)
    assert list(arrays) == ["index", "label", "code", "logvar", "recon", "kl", "elbo"]
    assert arrays["index"].tolist() == list(range(len(x)))
    assert np.array_equal(arrays["label"], labels)
    np.testing.assert_allclose(arrays["code"], posterior.mean, atol=1e-5)
    np.testing.assert_allclose(arrays["logvar"], posterior.logvar, atol=1e-5)
    np.testing.assert_allclose(arrays["recon"], recon, rtol=1e-6)
    np.testing.assert_allclose(arrays["elbo"], -recon - kl.sum(1), rtol=1e-6)
    assert f"{len(x)} images, codes of 10 dimensions" in printed


@pytest.mark.parametrize(
    ("variant", "columns", "said"),
    [
        ("ae", ["code", "recon"], "without logvar and kl and elbo: the model maps an image to a point"),
        ("vqvae", ["code", "indices", "recon", "kl", "elbo"], "without logvar: the codes are discrete"),
        ("conditional_vae", ["code", "logvar", "recon", "kl", "elbo_given_label"], ""),
    ],
)
def test_a_model_has_the_columns_that_it_can_have(
    variant: str, columns: list[str], said: str, made: Made, encoded: Callable[..., Any]
) -> None:
    arrays, printed = encoded(made(variant))
    assert list(arrays) == ["index", "label", *columns]
    assert said in printed
    if variant == "vqvae":
        model = Run(made(variant)).model()
        indices = torch.from_numpy(arrays["indices"])
        torch.testing.assert_close(model.codes_at(indices), torch.from_numpy(arrays["code"]))
        assert np.allclose(arrays["kl"], 16 * math.log(512))


def test_every_format_has_the_same_table(made: Made, program: Program, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='needs pip install -e ".[parquet]"')
    for ending in tables.KINDS:
        code, printed = program("encode", str(made("vae")), f"out={tmp_path / 'new' / f'codes{ending}'}")
        assert code == 0, printed
    with (tmp_path / "new" / "codes.csv").open() as file:
        header, *rows = csv.reader(file)
    table = parquet.read_table(tmp_path / "new" / "codes.parquet")
    assert header == table.column_names
    assert header[:4] == ["index", "label", "z0", "z1"]
    assert header[-4:] == ["logvar9", "recon", "kl", "elbo"]
    values = np.array(rows, dtype=float)
    np.testing.assert_allclose(values, np.stack([column.to_numpy() for column in table.columns], 1), rtol=1e-7)
    with np.load(tmp_path / "new" / "codes.npz") as arrays:
        np.testing.assert_allclose(arrays["code"], values[:, 2:12], rtol=1e-7)
        np.testing.assert_allclose(arrays["elbo"], values[:, -1])
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_files_are_named_resized_and_skipped_if_they_are_damaged(
    made: Made, pictures: Path, encoded: Callable[..., Any]
) -> None:
    run = Run(made("vae"))
    arrays, printed = encoded(run.path, f"images={pictures}")
    assert arrays["path"].tolist() == [str(path) for path in sorted(pictures.rglob("?.png"))]
    assert arrays["label"].tolist() == ["2"] * 3 + ["5"] * 5
    assert "2/0.png of 30x20 pixels, are resized to the 16x16 of the model with fit=crop" in printed
    assert "skipped 1 of 9 image files, which cannot be read" in printed
    alone, printed = encoded(run.path, f"images={pictures / '5' / '4.png'}")
    assert np.array_equal(alone["code"][0], arrays["code"][4]) or np.allclose(alone["code"][0], arrays["code"][4])
    assert np.allclose(run.encode(pictures)["code"], arrays["code"], atol=1e-5)


def test_numbers_do_not_depend_on_the_size_of_batches(made: Made) -> None:
    trained = Run(made("vae")).trained()
    one, other = (list(per_image.encode(trained.model, trained.images("train"), size=size)) for size in (128, 512))
    for name in ("code", "recon", "elbo"):
        np.testing.assert_allclose(
            *(np.concatenate([part[name] for part in parts]) for parts in (one, other)), atol=1e-5, rtol=1e-5
        )


def test_a_conditional_model_takes_labels_from_folders_or_one_for_all(
    made: Made, pictures: Path, encoded: Callable[..., Any], program: Program, tmp_path: Path
) -> None:
    run = Run(made("conditional_vae"))
    by_folder, _ = encoded(run.path, f"images={pictures}")
    assert by_folder["label"].tolist() == [2] * 3 + [5] * 5
    as_fives, _ = encoded(run.path, f"images={pictures}", "label=5")
    assert np.allclose(by_folder["code"][3:], as_fives["code"][3:], atol=1e-5)
    assert not np.allclose(by_folder["code"][:3], as_fives["code"][:3], atol=1e-5)
    for words, said in {
        ("images=" + str(pictures / "2"),): "needs the label of each image; set label=NUMBER",
        ("label=10",): "label must be from 0 to 9, got 10",
    }.items():
        code, printed = program("encode", str(run.path), f"out={tmp_path / 'x.npz'}", *words)
        assert (code, (tmp_path / "x.npz").exists()) == (1, False)
        assert said in printed


def test_exported_weights_give_what_their_run_gives(
    made: Made, pictures: Path, encoded: Callable[..., Any], program: Program, tmp_path: Path
) -> None:
    code, printed = program("export", str(made("vae")), f"out={tmp_path / 'model.safetensors'}")
    assert code == 0, printed
    of_run, _ = encoded(made("vae"), f"images={pictures}")
    of_file, _ = encoded(tmp_path / "model.safetensors", f"images={pictures}")
    assert all(np.array_equal(of_run[name], of_file[name]) for name in of_run)
    code, printed = program("encode", str(tmp_path / "model.safetensors"), f"out={tmp_path / 'x.npz'}")
    assert code == 1
    assert "needs images=FOLDER or FILE with exported weights" in printed


def test_what_cannot_be_done_is_one_sentence_and_no_file(
    made: Made, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes(b"no image")
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.csv").write_text("mine")
    run = str(made("vae"))
    for words, said in {
        (run, "out=codes.txt"): "out must end in .csv, .npz, .parquet, which decides the format, got codes.txt",
        (run, "out=file/codes.csv"): "cannot write to out=file/codes.csv: ",
        (run, "out=taken.csv"): "taken.csv already exists; choose another out=, or set overwrite=true",
        (run,): "needs out=FILE, which ends in .csv, .npz, .parquet",
        (run, run, "out=x.csv"): "needs one run folder or FILE.safetensors",
        (run, "out=x.csv", "images=empty"): "there are no images in empty",
        (run, "out=x.csv", "images=damaged"): "none of 1 image files can be read",
        (run, "out=x.csv", "images=nowhere"): "there is no file or folder nowhere",
        (run, "out=x.csv", "label=1"): "label=1 is for a conditional model, and VAE is not one",
        (run, "out=x.csv", "image=test"): "encode.image is not a setting here; did you mean 'images'?",
        ("nowhere", "out=x.csv"): "nowhere is not a run folder",
        ("nowhere.safetensors", "out=x.csv", "images=empty"): "nowhere.safetensors cannot be read",
    }.items():
        code, printed = program("encode", *words)
        assert code == 1, words
        assert said in printed
        assert "Traceback" not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "empty", "file", "taken.csv"]
    assert (tmp_path / "taken.csv").read_text() == "mine"


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_a_table_that_was_not_completed_is_not_left(ending: str, tmp_path: Path) -> None:
    def stop() -> None:
        with tables.writing(tmp_path / f"a{ending}") as table:
            table.add({"index": np.arange(3), "code": np.zeros((3, 2))})
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop()
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(
    made: Made, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    code, printed = program("encode", str(made("vae")), f"out={tmp_path / 'x.parquet'}")
    assert code == 1
    assert 'this needs the package pyarrow; to install it: pip install -e ".[parquet]"' in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_of_16_bits_are_encoded_as_the_model_saw_them(
    in_memory: bool, made: Made, encoded: Callable[..., Any], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (400, 8, 8), dtype=np.uint16)
    np.save(tmp_path / "images.npy", values)
    words = ("data=array", f"data.root={tmp_path / 'images.npy'}", "data.batch_size=16", f"data.in_memory={in_memory}")
    run = Run(made("vae", *words))
    arrays, _ = encoded(run.path)
    x, _ = run.data().examples(10_000, "test")
    assert len(set(x.unique().tolist())) > 256
    with torch.no_grad():
        np.testing.assert_allclose(arrays["code"], run.model().encode(x), atol=1e-6)
