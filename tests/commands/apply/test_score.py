"""Tables of scores: columns of the scorer, anomalies told from normal images, and warnings where likelihoods fail."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from vaezoo import Run
from vaezoo.commands.apply import score
from vaezoo.metrics.detection import detect

Program = Callable[..., tuple[int, str]]
Made = Callable[..., Path]

WITHOUT_ONES = ("vae", "data.leave_out=[1]", "data.limit=null", "trainer.max_steps=60")
QUICK = ("k=2", "train_images=200")


@pytest.fixture
def scored(program: Program, tmp_path: Path) -> Callable[..., tuple[dict[str, np.ndarray], str]]:
    """The columns that `vaezoo score` writes, and what it prints."""

    def run(source: Path, *words: str) -> tuple[dict[str, np.ndarray], str]:
        out = tmp_path / "scores.csv"
        code, printed = program("score", str(source), f"out={out}", "overwrite=true", *QUICK, *words)
        assert code == 0, printed
        with out.open() as file:
            header, *rows = csv.reader(file)
        return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}, printed

    return run


def test_left_out_classes_are_the_anomalies_of_the_test_split(made: Made, scored: Callable[..., tuple]) -> None:
    run = Run(made(*WITHOUT_ONES))
    columns, printed = scored(run.path)
    assert (columns["anomaly"] == "1").tolist() == (columns["label"] == "1").tolist()
    flags, values = columns["anomaly"].astype(int), columns["neg_elbo"].astype(float)
    scores = run.score()
    np.testing.assert_allclose(values, scores["neg_elbo"], rtol=1e-6)
    auroc = roc_auc_score(flags, values)
    assert f"neg_elbo     │ {auroc:.3f}" in printed
    assert f"{flags.sum()} anomalies among {len(flags)} images" in printed


def test_a_folder_of_anomalies_is_found_by_its_scores(
    made: Made, scored: Callable[..., tuple], pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "black").mkdir()
    for number in range(4):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "black" / f"{number}.png")
    columns, printed = scored(made(*WITHOUT_ONES), "images=test", f"anomalies={pictures}")
    assert columns["anomaly"].tolist() == ["0"] * (len(columns["path"]) - 8) + ["1"] * 8
    assert (columns["path"][0], columns["path"][-8]) == ("test/0", str(pictures / "2" / "0.png"))
    assert columns["label"][-8:].tolist() == ["2"] * 3 + ["5"] * 5
    assert f"skipped 1 of {len(columns['mse']) + 1} image files" in printed
    assert "mse          │ 1.000 (1.000 to 1.000) │ 1.000 (1.000 to 1.000)" in printed  # noise cannot be reconstructed
    columns, printed = scored(made(*WITHOUT_ONES), f"images={pictures}", f"anomalies={tmp_path / 'black'}")
    assert columns["label"].tolist() == ["2"] * 3 + ["5"] * 5 + [""] * 4
    values, flags = columns["mse"].astype(float), columns["anomaly"] == "1"
    found = detect(values[~flags], values[flags])
    low, high = found.auroc_interval
    assert f"mse          │ {found.auroc:.3f} ({low:.3f} to {high:.3f})" in printed


def test_a_warning_names_what_ranks_the_wrong_way_round() -> None:
    low, high = np.arange(100.0), np.arange(100.0) + 90
    reversed_, sound = detect(high, low), detect(low, high)
    [warning] = score._warnings({"neg_elbo": reversed_, "mse": sound, "knn_distance": sound})
    assert warning.startswith("neg_elbo ranks anomalies below normal images: likelihoods often favour")
    assert warning.endswith("mse is best")
    [warning] = score._warnings({"kl": reversed_, "mse": sound})
    assert warning == "kl ranks anomalies below normal images; mse is best"
    assert not list(score._warnings({"neg_elbo": sound}))


@pytest.mark.nightly
def test_a_likelihood_prefers_unseen_ones_and_neighbours_find_them(
    real_data: Path, made: Made, scored: Callable[..., tuple]
) -> None:
    """Of a short training; docs/use/encode-score-render.md has the figures of a longer one."""
    run = made("vae", "data=mnist", f"data.root={real_data}", "data.leave_out=[1]", "data.limit=null",
               "model.widths=[400]", "trainer.max_steps=-1", "trainer.max_epochs=2")  # fmt: skip
    columns, printed = scored(run, "k=1", "train_images=5000")
    flags = columns["anomaly"] == "1"
    auroc = {
        name: detect(columns[name].astype(float)[~flags], columns[name].astype(float)[flags]).auroc
        for name in ("neg_elbo", "knn_distance")
    }
    assert auroc["neg_elbo"] < 0.45
    assert auroc["knn_distance"] > 0.5
    assert "neg_elbo" in printed.partition("warning: ")[2].partition("rank")[0]


def test_exported_weights_have_scores_without_training_codes(
    made: Made, scored: Callable[..., tuple], program: Program, pictures: Path, tmp_path: Path
) -> None:
    code, printed = program("export", str(made("vae")), f"out={tmp_path / 'model'}")
    assert code == 0, printed
    columns, printed = scored(tmp_path / "model.safetensors", f"images={pictures}")
    assert list(columns) == ["path", "label", "mse", "recon", "neg_elbo", "neg_iw_bound", "kl"]
    assert "without knn_distance and mahalanobis: exported weights have no training images" in printed


def test_scores_in_python_are_those_of_the_table(made: Made, scored: Callable[..., tuple]) -> None:
    run = Run(made("vae"))
    columns, _ = scored(run.path)
    x, _ = run.data().examples(128, "test")
    found = run.scorer(train_images=200, draws=2)(x)
    for name, values in found.items():
        assert isinstance(values, torch.Tensor)
        np.testing.assert_allclose(columns[name][:128].astype(float), values, rtol=1e-4, err_msg=name)


def test_what_cannot_be_done_is_one_sentence_and_no_file(made: Made, program: Program, tmp_path: Path) -> None:
    run, out = str(made("vae")), tmp_path / "x.csv"
    for words, said in {
        ("neighbours=500",): "500 neighbours need as many training images, at least 2, got 256",
        ("k=0",): "score.k must be at least 1, got 0",
        ("anomalies=nowhere",): "there is no file or folder nowhere",
        ("k=1.5",): "score.k must be int",
    }.items():
        code, printed = program("score", run, f"out={out}", *words)
        assert (code, out.exists()) == (1, False), words
        assert said in printed
        assert "Traceback" not in printed
