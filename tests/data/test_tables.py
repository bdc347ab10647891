"""Rows of a table: read from each kind of file, standardised by the training split, and used by models of any kind."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.conftest import composed, small, some_models
from vaezoo import Run, load
from vaezoo.commands.assembly import made_model
from vaezoo.config import automatic
from vaezoo.config.errors import ConfigError, DataError, ImageError, VaezooError
from vaezoo.config.hydra_config import explain
from vaezoo.data import ImageDataModule
from vaezoo.nn.likelihoods import make_likelihood
from vaezoo.nn.networks import make_networks

Program = Callable[..., tuple[int, str]]
COUNT, NAMES = 80, ("height", "weight", "age")
SPATIAL = {"autoencoder_kl", "fsq_vae", "rvq_vae", "top_down_vae", "vqgan", "vqvae", "vqvae2"}
OF_IMAGES = SPATIAL | {"conv_vae", "vae_gan"}
"""Models that rows of a table are refused for."""


def values_of(seed: int = 0, count: int = COUNT) -> NDArray[np.float64]:
    """Columns of very different size, of which the second depends on the first: (N, 3)."""
    generator = np.random.default_rng(seed)
    first = generator.normal(1e6, 3, count)
    return np.stack(
        [first, 1e-4 * (first - 1e6) + generator.normal(0, 1e-5, count), generator.integers(0, 90, count)], 1
    )


LABELS = np.array(["cat", "dog"])[np.arange(COUNT) % 2]


def write_csv(path: Path, values: NDArray[Any], delimiter: str = ",", labels: NDArray[Any] | None = LABELS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([*NAMES, *([] if labels is None else ["Label"])])
        for at, row in enumerate(values):
            writer.writerow([*map(float, row), *([] if labels is None else [labels[at]])])
    return path


def write_parquet(path: Path, values: NDArray[Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install -e '.[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: values[:, at] for at, name in enumerate(NAMES)}
    parquet.write_table(pyarrow.table({**columns, "label": LABELS}), path)
    return path


def write_npz(path: Path, values: NDArray[Any]) -> Path:
    np.savez(path, x=values, y=LABELS)
    return path


WRITERS: dict[str, Callable[[Path, NDArray[Any]], Path]] = {
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".npz": write_npz,
}


def made(root: Path, **changes: Any) -> ImageDataModule:
    sizes = {"val_size": 10, "test_size": 20, "batch_size": 16, "eval_batch_size": 7}
    return ImageDataModule(
        **{"source": "table", "root": str(root), "image_size": None, "channels": None, **sizes, **changes}
    )


def rows_of(data: ImageDataModule, split: str) -> Tensor:
    """The rows of a split as they are trained on, (N, D), those of training in the order of epoch 0."""
    data.setup()
    loader = getattr(data, f"{split}_dataloader")()
    return torch.cat([x for x, *_ in loader]).flatten(1)


def as_set(rows: Tensor) -> set[tuple[float, ...]]:
    return {tuple(round(value, 3) for value in row) for row in rows.tolist()}


# from files to batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(WRITERS))
def test_columns_are_standardised_by_the_training_rows_alone(kind: str, tmp_path: Path) -> None:
    values = values_of()
    data = made(WRITERS[kind](tmp_path / f"people{kind}", values))
    assert (data.image_shape, data.name) == ((1, 1, 3), "people")
    train, val, test = (rows_of(data, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (50, 10, 20)
    torch.testing.assert_close(train.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert data.standardization is not None
    kept = data.standardization
    found = torch.cat([train, val, test]).double().numpy() * kept.std + kept.mean
    order = np.argsort(values[:, 0])
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], values[order], rtol=1e-9, atol=1e-5)
    assert abs(float(test.mean())) > 1e-3  # of other rows, so not standardised by itself
    assert data.describe()["mean"] == list(kept.mean)
    assert [str(value) for value in data.factors[0].values] == ["cat", "dog"]
    assert set(data.labels("test").tolist()) == {0, 1}


def test_a_large_offset_loses_no_precision(tmp_path: Path) -> None:
    values = values_of()
    values[:, 0] = 1e9 + 1e-2 * np.arange(COUNT)  # float32 has steps of 64 there
    np.save(tmp_path / "offset.npy", values)
    train = rows_of(made(tmp_path / "offset.npy"), "train")
    assert len(set(train[:, 0].tolist())) == 50


def test_a_constant_column_becomes_zero(tmp_path: Path) -> None:
    values = values_of()
    values[:, 1] = 0.1
    np.save(tmp_path / "constant.npy", values)
    assert not rows_of(made(tmp_path / "constant.npy"), "train")[:, 1].any()


def test_columns_are_chosen_by_name_in_their_order(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "people.csv", values_of())
    chosen, everything = made(path, columns=["age", "height"]), made(path)
    assert as_set(rows_of(chosen, "test")) == as_set(rows_of(everything, "test")[:, [2, 0]])
    assert made(path, label_key="none", columns=["age"]).image_shape == (1, 1, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_first_line_says_how_values_are_separated(delimiter: str, tmp_path: Path) -> None:
    wanted = as_set(rows_of(made(write_csv(tmp_path / "commas.csv", values_of())), "test"))
    assert as_set(rows_of(made(write_csv(tmp_path / "people.csv", values_of(), delimiter)), "test")) == wanted


def test_a_file_without_names_has_numbered_columns(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "plain.csv", values_of(), delimiter=",", fmt="%.17g")
    data = made(tmp_path / "plain.csv")
    assert len(rows_of(data, "train")) == 50
    assert data.standardization is not None
    assert data.standardization.columns == ("0", "1", "2")
    assert data.factors == ()


def test_files_of_splits_are_splits(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "validation", "test")):
        write_csv(tmp_path / f"{name}.csv", values_of(seed, 20 + seed), labels=None)
    data = made(tmp_path)
    assert [len(rows_of(data, split)) for split in ("train", "val", "test")] == [20, 21, 22]
    given = (values_of(0, 20).mean(0), values_of(0, 20).std(0))
    np.testing.assert_allclose((data.standardization.mean, data.standardization.std), given)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("classes", [("a", "b"), (3, 10)])
def test_rows_without_a_label_have_none(kind: str, classes: tuple[Any, Any], tmp_path: Path) -> None:
    labels = [None if at % 3 == 2 else classes[at % 3] for at in range(COUNT)]
    path = tmp_path / f"people.{kind}"
    if kind == "csv":
        write_csv(path, values_of(), labels=np.array(["" if label is None else str(label) for label in labels]))
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {name: values_of()[:, at] for at, name in enumerate(NAMES)}
        parquet.write_table(pyarrow.table({**columns, "label": labels}), path)
    data = made(path)
    data.setup()
    assert data.factors[0].values == tuple(map(str, classes))
    found = torch.cat([data.labels(split) for split in ("train", "val", "test")])
    assert sorted(set(found.tolist())) == [-1, 0, 1]
    assert int((found == -1).sum()) == sum(label is None for label in labels)


def test_whole_numbers_in_a_label_column_are_classes(tmp_path: Path) -> None:
    labels = np.arange(COUNT) % 3
    path = write_csv(tmp_path / "people.csv", values_of(), labels=labels)
    data = made(path, leave_out=[2])
    data.setup()
    assert set(data.labels("train").tolist()) == {0, 1}
    assert set(data.labels("test").tolist()) == {0, 1, 2}


# models --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "laplace", "log_cosh"])
def test_likelihoods_of_any_number_take_decoder_outputs_as_means(name: str) -> None:
    likelihood = make_likelihood(name, {"sigma" if name == "gaussian" else "scale": 0.5}, image_shape=(1, 1, 4))
    x, outputs = 3 * torch.randn(5, 1, 1, 4), 3 * torch.randn(5, 1, 1, 4)
    error = (x - outputs) / 0.5
    density = {
        "gaussian": -0.5 * error.square() - 0.5 * math.log(2 * math.pi),
        "laplace": -error.abs() - math.log(2),
        "log_cosh": -torch.log(torch.cosh(error)) - math.log(math.pi),
    }[name] - math.log(0.5)
    torch.testing.assert_close(likelihood.log_prob(x, outputs), density.sum((1, 2, 3)))
    assert torch.equal(likelihood.mean(outputs), outputs)
    assert likelihood.supports(x).all()
    assert not likelihood.supports(torch.full((1, 1, 1, 4), math.inf)).any()


def test_a_learned_sigma_fits_standardised_columns() -> None:
    likelihood = make_likelihood("learned_gaussian", {"sigma": "optimal"}, image_shape=(1, 1, 4))
    x, outputs = 3 * torch.randn(50, 1, 1, 4), torch.randn(50, 1, 1, 4)
    mse = (x - outputs).square().mean()
    torch.testing.assert_close(likelihood.nll(x, outputs).mean(), 2 * (1 + torch.log(2 * math.pi * mse)))


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "discretized_logistic"])
def test_likelihoods_of_pixels_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"model\.likelihood={name} is of pixels .* choose gaussian, learned_gaussian"
    ):
        make_likelihood(name, image_shape=(1, 1, 4))


@pytest.mark.parametrize("variant", some_models(3))
def test_every_model_trains_on_rows_or_says_that_it_cannot(variant: str, program: Program, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "people.csv", values_of())
    words = ["data=table", f"data.root={path}", "data.batch_size=16", "trainer.max_epochs=2", *small(variant)]
    code, printed = program("train", f"model={variant}", f"run_dir={tmp_path / 'run'}", *words)
    if variant in OF_IMAGES:
        assert code == 1
        error = next(line for line in printed.splitlines() if line.startswith("error: "))
        assert "is for images, and the data are rows of a table; choose" in error or "set it to null" in error
        assert not (tmp_path / "run" / "config.yaml").exists()
        return
    assert code == 0, printed
    run = Run(tmp_path / "run")
    assert "psnr" not in run.summary["test"]
    assert run.summary["test"]["mse"] < 1.5
    assert "rows of 3 standardised columns" in printed
    assert "no picture of" not in printed


@pytest.mark.parametrize("variant", sorted(OF_IMAGES))
def test_models_of_images_say_so_before_training(variant: str) -> None:
    cfg = composed(f"model={variant}", "data=table", *small(variant)).copy()
    automatic.resolve(cfg)
    with pytest.raises(Exception, match="rows of a table") as raised:
        made_model(cfg.model, [1, 1, 4])
    said = raised.value if isinstance(raised.value, VaezooError) else explain(raised.value)
    assert "is for images" in str(said)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.network=conv"], r"model\.network=conv is for images.*; choose mlp"),
        (["model.perceptual=ms_ssim"], r"model\.perceptual=ms_ssim is for images.*; set it to null"),
        (["model.discriminator=patches"], r"model\.discriminator=patches is for images"),
        (["model.corruption=salt_pepper"], r"salt_pepper is for images.*; choose gaussian, or masking"),
        (["model.likelihood=bernoulli"], r"model\.likelihood=bernoulli is of pixels"),
    ],
)
def test_parts_for_images_are_refused(overrides: list[str], message: str, make_model: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=message):
        make_model("vae", *overrides, image_shape=[1, 1, 4])


def test_flat_images_are_still_refused() -> None:
    with pytest.raises(ConfigError, match="images must be at least 8x8 pixels, got 1x12"):
        make_networks("mlp", (3, 1, 12), 2, 2)


def test_pseudo_inputs_start_at_rows_as_they_are(make_model: Callable[..., Any]) -> None:
    model = make_model("vamp_vae", "model.widths=[8]", image_shape=[1, 1, 4])
    rows = 5 * torch.randn(7, 1, 1, 4)
    with torch.no_grad():
        model.prior_model.start_from(rows, model.posterior)
    torch.testing.assert_close(model.prior_model.pseudo_inputs, rows)
    mean, _ = model.posterior(rows).moments()
    torch.testing.assert_close(model.prior().mean, mean)


def test_the_image_api_takes_any_finite_number(make_model: Callable[..., Any]) -> None:
    model = make_model("vae", "model.widths=[8]", "model.likelihood=gaussian", image_shape=[1, 1, 4]).eval()
    assert model.encode(100 * torch.randn(3, 1, 1, 4)).shape == (3, 10)
    with pytest.raises(ImageError, match="encode needs finite numbers"):
        model.encode(torch.full((1, 1, 1, 4), math.nan))
    with pytest.raises(ImageError, match=r"got \(3, 4\); write rows\.reshape\(-1, 1, 1, 4\)"):
        model.encode(torch.randn(3, 4))


# runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(program: Program, tmp_path: Path) -> Run:
    path = write_csv(tmp_path / "people.csv", values_of())
    words = ["model.latent_dim=2", "data=table", f"data.root={path}", "data.test_size=20", "data.batch_size=16"]
    code, printed = program("train", "model=vae", f"run_dir={tmp_path / 'run'}", "trainer.max_epochs=30", *words)
    assert code == 0, printed
    return Run(tmp_path / "run")


def test_a_run_keeps_what_columns_were_standardised_by(run: Run, tmp_path: Path) -> None:
    kept = run.config.data
    assert list(kept.columns) == list(NAMES)
    assert (kept.image_size, kept.channels) == (None, None)
    assert run.encode("test")["code"].shape == (20, 2)
    (tmp_path / "people.csv").rename(tmp_path / "moved.csv")
    assert run.data().image_shape == (1, 1, 3)
    shifted = values_of() + 1  # other rows, standardised as those of training were
    again = run.encode(write_csv(tmp_path / "shifted.csv", shifted))["code"]
    assert again.shape == (COUNT, 2)
    by = run.data().standardization
    assert by is not None
    direct = run.model().encode(by.apply(shifted)).detach().numpy()
    np.testing.assert_allclose(again, direct, rtol=1e-5, atol=1e-6)


def test_an_evaluation_has_the_metrics_of_numbers_and_says_why_not_those_of_images(run: Run, program: Program) -> None:
    code, printed = program("evaluate", str(run.path), "quick=true", "references=true")
    assert code == 0, printed
    assert "elbo" in printed
    assert run.evaluation is not None
    metrics = run.evaluation["metrics"]
    for name in ("psnr", "ssim", "ms_ssim", "prior_fd_classifier", "interpolation_fd_linear", "perceptual_lite0"):
        assert metrics[name] == {"value": None, "reason": "the data are rows of a table, not images"}
    for name in ("elbo", "iw_bound", "mse", "active_units", "mutual_information", "probe_accuracy"):
        assert math.isfinite(metrics[name]["value"]), name
    pca = run.evaluation["references"]["pca"]["metrics"]
    train, test = (run.data().examples(100, split)[0].flatten(1).double() for split in ("train", "test"))
    centred = train - train.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:2]
    left = (test - train.mean(0)) @ (torch.eye(3, dtype=torch.float64) - axes.T @ axes)
    assert pca["mse"]["value"] == pytest.approx(float(left.square().mean()), rel=1e-4)


def test_a_report_has_charts_and_no_pictures_of_rows(run: Run, program: Program, tmp_path: Path) -> None:
    code, printed = program("compare", str(run.path), f"out={tmp_path / 'report'}", "pdf=false")
    assert code == 0, printed
    page = (tmp_path / "report" / "report.html").read_text()
    assert "people, 3 columns" in page
    names = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
    assert "latent-map-0" in names
    assert not any(name.startswith(("reconstructions", "samples", "traversals")) for name in names)


def test_runs_on_other_training_rows_measure_in_other_units(run: Run, program: Program, tmp_path: Path) -> None:
    words = [
        "data=table",
        f"data.root={run.config.data.root}",
        "data.limit=30",
        "trainer.max_epochs=2",
        "callbacks=none",
    ]
    assert program("train", "model=vae", f"run_dir={tmp_path / 'other'}", *words)[0] == 0
    assert program("compare", str(run.path), str(tmp_path / "other"), f"out={tmp_path / 'report'}", "pdf=false")[0] == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("people, 3 columns, standardised as ") >= 2


def test_exported_weights_standardise_as_in_training(run: Run, program: Program, tmp_path: Path) -> None:
    code, printed = program("export", str(run.path), f"out={tmp_path / 'model'}")
    assert code == 0, printed
    table = write_csv(tmp_path / "others.csv", values_of(5))
    for source, name in ((run.path, "run"), (tmp_path / "model.safetensors", "weights")):
        code, printed = program("encode", str(source), f"images={table}", f"out={tmp_path / name}.csv")
        assert code == 0, printed
    assert (tmp_path / "run.csv").read_text() == (tmp_path / "weights.csv").read_text()
    assert load(tmp_path / "model.safetensors").image_shape == (1, 1, 3)


def test_rows_are_scored_as_anomalies(run: Run, program: Program, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "strange.csv", values_of(5) * [1, -1, 1] + [0, 1e-2, 0])
    words = ("score", str(run.path), f"anomalies={table}", f"out={tmp_path / 'scores.csv'}")
    code, printed = program(*words)
    assert code == 0, printed
    mse = next(line for line in printed.splitlines() if " mse " in line)
    assert float(mse.split("│")[2].split()[0]) > 0.95, printed


@pytest.mark.parametrize("verb", [("render", "what=sample", "out=a.png"), ("explore", "out=a.html")])
def test_what_draws_images_refuses_rows(verb: tuple[str, ...], run: Run, program: Program, tmp_path: Path) -> None:
    name, *words = verb
    words = [word.replace("out=", f"out={tmp_path}/") for word in words]
    code, printed = program(name, str(run.path), *words)
    assert code == 1
    assert printed.strip().startswith("error: ")
    assert "rows of a table" in printed
    assert "use vaezoo encode or score" in printed
    assert not list(tmp_path.glob("a.*"))


# bad input -----------------------------------------------------------------------------------------------------------

HEAD = ",".join(NAMES)


def rows_as_text(*changed: str) -> str:
    """Sound lines, after a head, with the last ones replaced."""
    return "\n".join([HEAD, *["1,2,3"] * (60 - len(changed)), *changed]) + "\n"


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (
            rows_as_text("1,2,many"),
            {},
            r"has 'many' in row 60 of column age, where a number is wanted; name the columns",
        ),
        (rows_as_text("1,2,"), {}, r"has '' in row 60 of column age, where a number is wanted"),
        (
            rows_as_text("1,2,nan", "1,2,inf"),
            {},
            r"has 2 missing or non-finite values, the first in row 59 of column age",
        ),
        (rows_as_text("1,2"), {}, r"row 60 of .* has 2 values, and the first line 3; repair it"),
        (rows_as_text(), {"columns": ["size"]}, r"has no column size; its columns are height, weight, age"),
        (
            rows_as_text(),
            {"label_key": "kind"},
            r"has no column kind for data\.label_key; its columns are height, weight, age",
        ),
        (rows_as_text(), {"key": "x"}, r"data\.key names an array of an \.npz file, got 'x'"),
        (HEAD + "\n", {}, r"the train split of .* has no rows"),
        ("", {}, r"has no columns in its first line"),
        ("a,b,a\n1,2,3\n", {}, r"has several columns called 'a'; rename them"),
        ("label\n1\n2\n", {}, r"has no columns besides the label"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(
    text: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises((DataError, ConfigError), match=message) as raised:
        made(tmp_path / "people.csv", **changes).setup()
    assert "\n" not in str(raised.value)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot be read as text: .*; save it as UTF-8"):
        made(tmp_path / "people.csv")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install -e '.[parquet]'")
    (tmp_path / "people.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"is not a sound Parquet file: .*; save it again"):
        made(tmp_path / "people.parquet")


def test_a_text_column_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "people.parquet", values_of())
    with pytest.raises(DataError, match=r"column label of .* holds string, where numbers are wanted; name the columns"):
        made(path, label_key="none").setup()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.zeros((9, 3, 3)),
            r"must be numbers of shape \(N, D\), .* got float64 of shape \(9, 3, 3\); reshape it, or use",
        ),
        (np.full((9, 3), None), r"got object of shape"),
        (np.full((9, 3), "a"), r"got <U1 of shape"),
    ],
)
def test_arrays_that_are_no_tables_are_refused(values: NDArray[Any], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        made(tmp_path / "table.npy")


@pytest.mark.parametrize("name", ["no.csv", "picture.png"])
def test_what_is_no_table_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"png")
    with pytest.raises(DataError, match=r"there is no file .*; set data\.root|a table must be a \.csv"):
        made(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"binarize": "dynamic"}, r"data\.binarize is for images, got 'dynamic' with data=table; leave it out"),
        ({"image_size": 8}, r"data\.image_size is for images, got 8"),
        ({"channels": 1}, r"data\.channels is for images"),
        ({"range": [0, 1]}, r"data\.range is for your own images"),
        ({"columns": ["age", "age"]}, r"data\.columns names a column twice: age, age"),
        ({"columns": "age"}, r"data\.columns must be null or a list of names"),
        ({"mean": [1.0]}, r"data\.mean and data\.std must be lists with a number for each of data\.columns"),
        ({"columns": ["age"], "mean": [1.0], "std": [0.0]}, r"data\.std must be positive numbers, got 0"),
        ({"source": "array", "columns": ["age"]}, r"data\.columns is for data=table, got \['age'\]"),
    ],
)
def test_settings_that_do_not_fit_tables_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "people.csv", values_of())
    with pytest.raises(ConfigError, match=message):
        made(path, **changes)


def test_another_table_must_have_the_columns_of_training(run: Run, program: Program, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("height,weight\n1,2\n")
    code, printed = program(
        "encode", str(run.path), f"images={tmp_path / 'other.csv'}", f"out={tmp_path / 'codes.csv'}"
    )
    assert code == 1
    assert "has no column age, which the model was trained with; its columns are height, weight" in printed
    assert not (tmp_path / "codes.csv").exists()
