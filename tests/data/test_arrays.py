"""One's own arrays: their pixels, labels and splits, exact and in the project's own order, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.commands.test_train import interrupt_at
from tests.data.test_datamodule import Recorder, trainer
from vaezoo import Run
from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import ImageDataModule
from vaezoo.data.loader import InMemoryLoader, StreamingLoader

Program = Callable[..., tuple[int, str]]
COUNT = 60
SHAPES = {(9, 12): (1, 9, 12), (9, 12, 5): (5, 9, 12), (2, 9, 12): (2, 9, 12), (9, 12, 1): (1, 9, 12)}
"""Shapes of an image in an array, and as the model sees it."""


def random(dtype: str, *shape: int) -> NDArray[Any]:
    """Values over the full range of a type: (N, *shape)."""
    generator = np.random.default_rng(0)
    if dtype.startswith("float"):
        return generator.random((COUNT, *shape)).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, (COUNT, *shape), dtype, endpoint=True)


def made(root: Path, **changes: Any) -> ImageDataModule:
    sizes = {"val_size": 10, "test_size": 10, "batch_size": 16, "eval_batch_size": 7}
    return ImageDataModule(
        **{"source": "array", "root": str(root), "image_size": None, "channels": None, **sizes, **changes}
    )


def images_of(data: ImageDataModule) -> Tensor:
    """All images, those of the training split in the order of epoch 0."""
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    return torch.cat([x for loader in loaders for x, *_ in loader])


def as_set(images: NDArray[Any]) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in images}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("dtype", "highest"), [("uint8", 255), ("uint16", 65535), (">u2", 65535), ("float32", 1), ("float64", 1)]
)
def test_every_value_arrives_exactly(dtype: str, highest: int, in_memory: bool, tmp_path: Path) -> None:
    values = random(np.dtype(dtype).newbyteorder("=").name, 3, 8, 9).astype(dtype)
    np.save(tmp_path / "images.npy", values)
    x = images_of(made(tmp_path / "images.npy", in_memory=in_memory)).double()
    assert x.shape == (COUNT, 3, 8, 9)
    wanted = torch.from_numpy(values.astype(np.float64)) / highest
    assert as_set(x.float().numpy()) == as_set(wanted.float().numpy())
    if highest > 1:
        assert as_set((x * highest).round().numpy()) == as_set(values.astype(np.float64))


@pytest.mark.parametrize("shape", list(SHAPES))
def test_axes_and_size_are_those_of_the_array(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = random("uint8", *shape)
    np.savez(tmp_path / "mine.npz", images=values)
    data = made(tmp_path / "mine.npz")
    assert data.image_shape == SHAPES[shape]
    assert data.name == "mine"
    last = len(shape) == 3 and data.image_shape[0] == shape[-1]
    wanted = np.moveaxis(values, -1, 1) if last else values.reshape(COUNT, *data.image_shape)
    assert as_set((images_of(data) * 255).round().byte().numpy()) == as_set(wanted)


def test_a_number_of_channels_decides_between_two_axes(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", random("uint8", 8, 32, 16))
    assert made(tmp_path / "images.npy").image_shape == (8, 32, 16)
    assert made(tmp_path / "images.npy", channels=16).image_shape == (16, 8, 32)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("binarize", ["threshold", "dynamic"])
def test_other_types_are_binarised_as_8_bits_are(binarize: str, in_memory: bool, tmp_path: Path) -> None:
    """A pixel is 1 with its value as the probability, whatever the type, and from disk as in memory."""
    values = np.full((COUNT, 16, 16), 0.3, np.float32)
    values[:, :8] = 1
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", (values * 65535).astype(np.uint16))
    found = [images_of(made(tmp_path / f"{name}.npy", binarize=binarize, in_memory=in_memory)) for name in "ab"]
    for x in found:
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert bool((x[:, :, :8] == 1).all())
        assert abs(x[:, :, 8:].mean().item() - (0.3 if binarize == "dynamic" else 0)) < 0.02  # standard deviation 0.005


@pytest.mark.parametrize(
    ("values", "setting", "levels", "highest"),
    [
        (np.array([0, 4000], np.uint16), "auto", [0, 4095], 4000 / 4095),
        (np.array([0, 4000], np.uint16), "full", "full", 4000 / 65535),
        (np.array([0, 4000], np.uint16), [0, 8000], [0, 8000], 0.5),
        (np.array([0, 1], np.uint8), [0, 1], [0, 1], 1.0),
        (np.array([False, True]), "auto", "full", 1.0),
        (np.array([-1, 1], np.float32), [-1, 1], [-1, 1], 1.0),
        (np.array([0, 0.7], np.float16), "auto", "full", float(np.float16(0.7))),
        (np.array([0, 200.0]), "auto", [0, 255], 200 / 255),
    ],
)
def test_levels_are_found_or_given(values: Any, setting: Any, levels: Any, highest: float, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.resize(values, (COUNT, 8, 8)))
    data = made(tmp_path / "images.npy", range=setting)
    x = images_of(data)
    assert data.range == levels
    assert (x.min().item(), x.max().item()) == (0, pytest.approx(highest, abs=1e-7))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_are_resized_with_a_note(dtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.full((COUNT, 8, 8, 3), np.float64(1) if dtype == "float32" else np.iinfo(dtype).max).astype(dtype)
    np.save(tmp_path / "images.npy", values)
    with caplog.at_level("INFO"):
        x = images_of(made(tmp_path / "images.npy", image_size=[16, 32], channels=1, fit="pad", range="full"))
    assert "has 8x8 of 3 channels, resized to 16x32 of 1" in caplog.text
    assert x.shape == (COUNT, 1, 16, 32)
    assert bool((x[..., :8] == 0).all())
    assert torch.allclose(x[..., 8:24], torch.ones(()), atol=1 / 255)


# labels and splits ---------------------------------------------------------------------------------------------------


def numbered(count: int, first: int = 0) -> NDArray[np.uint8]:
    """Images whose every pixel is their number."""
    return np.repeat(np.arange(first, first + count, dtype=np.uint8), 64).reshape(count, 8, 8)


def test_the_keys_of_medmnist_are_splits_and_classes(tmp_path: Path) -> None:
    parts = {"train": numbered(30), "val": numbered(12, 100), "test": numbered(14, 200)}
    arrays = {f"{split}_images": values for split, values in parts.items()}
    arrays |= {f"{split}_labels": values[:, 0, :1] % 3 for split, values in parts.items()}
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    data = made(tmp_path / "pathmnist.npz", val_size=0.5)
    described = data.describe()
    assert [described[split] for split in ("train", "val", "test")] == [30, 12, 14]
    assert (data.classes, data.factors[0].values) == (3, ("0", "1", "2"))
    for split, values in parts.items():
        x, y = data.examples(100, split)
        numbers = (x[:, 0, 0, 0] * 255).round().long()
        assert set(numbers.tolist()) == set(values[:, 0, 0].tolist())
        assert torch.equal(y, numbers % 3)


@pytest.mark.parametrize(
    ("names", "key", "label_key"),
    [
        (("x_train", "y_train", "x_test", "y_test"), None, None),
        (("data", "targets"), None, None),
        (("Images", "Labels"), None, None),
        (("frames", "kinds", "labels"), "frames", "kinds"),
        (("train_frames", "train_kinds", "test_frames"), "frames", "kinds"),
    ],
)
def test_arrays_are_found_by_usual_names_or_given_ones(
    names: tuple[str, ...], key: str | None, label_key: str | None, tmp_path: Path
) -> None:
    """The same in an .npz file and in a folder of .npy files."""
    images = ("x", "data", "images", "frames")
    for name in names:
        values = numbered(COUNT) if any(word in name.lower() for word in images) else np.arange(COUNT) % 4
        np.save(tmp_path / f"{name}.npy", values)
    np.savez(tmp_path.with_suffix(".npz"), **{path.stem: np.load(path) for path in tmp_path.glob("*.npy")})
    for root in (tmp_path, tmp_path.with_suffix(".npz")):
        data = made(root, key=key, label_key=label_key)
        x, y = data.examples(COUNT, "train")
        assert data.classes == 4
        assert torch.equal(y, (x[:, 0, 0, 0] * 255).round().long() % 4)
        assert made(root, key=key, label_key="none").classes is None


def test_labels_may_be_texts_several_or_partly_missing(tmp_path: Path) -> None:
    kinds = {
        "texts": np.resize(np.array(["cat", "dog"]), COUNT),
        "several": np.stack([np.arange(COUNT) % 2, np.arange(COUNT) % 5], 1),
        "partly": np.where(np.arange(COUNT) < 9, np.arange(COUNT) % 3, -1),
        "single": np.zeros(COUNT),
    }
    np.savez(tmp_path / "mine.npz", images=numbered(COUNT), **kinds)
    found = {name: made(tmp_path / "mine.npz", label_key=name) for name in kinds}
    assert found["texts"].labels("train").unique().tolist() == [0, 1]
    assert found["texts"].factors[0].values == ("cat", "dog")
    assert found["several"].labels("val").shape == (10, 2)
    assert [factor.name for factor in found["several"].factors] == ["several 1", "several 2"]
    assert found["partly"].labels("train").unique().tolist() == [-1, 0, 1, 2]
    assert found["single"].classes is None


# order, memory and devices -------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Random 16-bit images of four channels in a .npy file."""
    np.save(tmp_path / "images.npy", random("uint16", 8, 8, 4))
    return tmp_path / "images.npy"


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_run_sees_exactly_what_the_whole_run_saw(
    step: int, in_memory: bool, stored: Path, tmp_path: Path
) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    def fit(checkpoint: Path | None) -> list[tuple[float, list[int]]]:
        data, model = made(stored, in_memory=in_memory, batch_size=16, binarize="dynamic"), Recorder()
        saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=step, save_top_k=-1)
        run = trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[saving])
        run.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return model.seen["train"]

    whole = fit(None)
    assert len(whole) == 6
    assert fit(tmp_path / f"step={step}.ckpt") == whole[step:]


def test_batches_are_the_same_from_memory_from_disk_and_from_workers(stored: Path) -> None:
    ways = ({"in_memory": True}, {"in_memory": False}, {"in_memory": False, "num_workers": 2})
    found = []
    for way in ways:
        data = made(stored, **way)
        found.append(images_of(data))
        data.close()
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_shares_of_two_devices_are_the_batch_of_one(in_memory: bool, stored: Path) -> None:
    whole = [batch.images for batch in made(stored, in_memory=in_memory).train_dataloader().stored()]
    shares = []
    for rank in (0, 1):
        loader = made(stored, in_memory=in_memory).train_dataloader()
        loader.sampler.rank, loader.sampler.world_size = rank, 2
        shares.append([batch.images for batch in loader.stored()])
    assert all(torch.equal(torch.cat(both), one) for *both, one in zip(*shares, whole, strict=True))


def test_what_does_not_fit_the_memory_limit_stays_on_disk(stored: Path) -> None:
    size = COUNT * 2 * 4 * 8 * 8 / 2**30

    def kind(**changes: Any) -> type:
        data = made(stored, **changes)
        data.setup()
        return type(data.val_dataloader())

    assert kind() is kind(memory_limit_gib=size) is InMemoryLoader
    assert kind(memory_limit_gib=size * 0.99) is StreamingLoader
    assert kind(memory_limit_gib=size / 2, binarize="threshold") is InMemoryLoader  # one byte for each pixel


def test_an_array_on_disk_is_mapped_in_each_process_and_not_copied_to_it(stored: Path) -> None:
    data = made(stored, in_memory=False)
    images_of(data)
    part = data._splits["train"]
    again = pickle.loads(pickle.dumps(part))
    assert len(pickle.dumps(part)) < 5000 < stored.stat().st_size
    assert torch.equal(again.__getitems__([3, 1]).images, part.__getitems__([3, 1]).images)  # type: ignore[union-attr]


# runs ----------------------------------------------------------------------------------------------------------------


def test_a_run_records_the_size_it_found_and_goes_on_with_it(
    stored: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["data=array", f"data.root={stored}", "data.batch_size=8", "model.widths=[16]", "callbacks=none"]
    command = ["train", f"run_dir={tmp_path / 'run'}", "resume=auto", *data, "trainer.max_epochs=2", "evaluation=none"]
    interrupt_at(monkeypatch, 8)
    assert program(*command)[0] == 130
    monkeypatch.undo()
    code, printed = program(*command)
    assert code == 0, printed
    run = Run(tmp_path / "run")
    assert (run.config.data.image_size, run.config.data.channels) == (8, 4)
    assert run.summary["data"]["image_shape"] == [4, 8, 8]
    stored.unlink()
    assert run.data().image_shape == (4, 8, 8)  # which a moved file does not change
    assert run.model().image_shape == (4, 8, 8)


# bad input -----------------------------------------------------------------------------------------------------------


def saved(folder: Path, values: Any, name: str = "images.npy") -> Path:
    np.save(folder / name, values, allow_pickle=True)
    return folder / name


def with_nan(values: NDArray[Any]) -> NDArray[Any]:
    values[17, 0, 3, 3] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        (np.full((COUNT, 8, 8), None), {}, r"images\.npy holds Python objects, which are never loaded; save"),
        (random("uint8", 8), {}, r"must have the shape \(N, H, W\), .* got \(60, 8\); reshape it"),
        (random("uint8", 8, 8, 8), {}, r"may be \(N, C, H, W\) or \(N, H, W, C\)"),
        (random("uint8", 4, 4), {}, r"data\.image_size must be a whole number from 8 up.* got \[4, 4\]"),
        (
            random("uint8", 8, 8, 5),
            {"channels": 3},
            r"images of 5 channels, which cannot become images of 3; leave out",
        ),
        (np.zeros((0, 8, 8), np.uint8), {}, r"images\.npy is empty; set data\.root"),
        (np.zeros((COUNT, 8, 8), np.int64), {}, r"values of type int64, which are not pixels; save it as uint8"),
        (np.zeros((COUNT, 8, 8), complex), {}, r"values of type complex128, which are not pixels"),
        (
            with_nan(random("float32", 1, 8, 8)),
            {},
            r"images\.npy\[17\] cannot be used: some of its values are not finite",
        ),
        (with_nan(random("float32", 1, 8, 8)), {"range": "full"}, r"images\.npy\[17\] .* are not finite; leave it out"),
        (random("float32", 8, 8) - 0.5, {}, r"does not determine the levels of black and white; set data\.range"),
        (
            random("float32", 8, 8) * 2,
            {"range": "full"},
            r"values are .*, beyond the range 0 to 1; set a wider data\.r",
        ),
        (random("uint16", 8, 8), {"range": [0, 255]}, r"beyond the range 0 to 255; set a wider data\.range"),
        (random("uint8", 8, 8), {"range": [0, 4095]}, r"data\.range extends to 4095, but .*images\.npy has 8 bits"),
        (random("uint8", 8, 8), {"key": "frames"}, r"has images, but no array called frames; set data\.key"),
        (random("uint8", 8, 8), {"label_key": "kinds"}, r"no array called kinds; set data\.label_key"),
        (random("uint8", 8, 8), {"key": ""}, r"data\.key must be the name of an array, got ''"),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_bad_array_is_refused_in_one_sentence(
    values: Any, changes: dict[str, Any], in_memory: bool, message: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, values)
    with pytest.raises((DataError, ConfigError), match=message) as refused:
        images_of(made(path, in_memory=in_memory, **changes))
    assert "\n" not in str(refused.value)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    trap = np.full(COUNT, Payload(tmp_path / "owned"))
    saved(tmp_path, trap, "labels.npy")
    saved(tmp_path, numbered(COUNT))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(trap))
    np.savez(tmp_path / "mine.npz", images=numbered(COUNT), labels=trap)
    with pytest.raises(DataError, match=r"labels in .*mine\.npz holds Python objects, which are never loaded"):
        made(tmp_path / "mine.npz").setup()
    assert made(tmp_path / "mine.npz", label_key="none").describe()["train"] == 40
    with pytest.raises(DataError, match=r"pickle\.npy is not a sound \.npy file: the magic string is not correct"):
        made(tmp_path / "pickle.npy")
    assert not (tmp_path / "owned").exists()


def test_missing_empty_and_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.npy").touch()
    (tmp_path / "text.npz").write_text("no archive")
    path = saved(tmp_path, numbered(COUNT))
    (tmp_path / "short.npy").write_bytes(path.read_bytes()[:1000])
    np.savez(tmp_path / "sets.npz", test_images=numbered(COUNT))
    np.savez(tmp_path / "mixed.npz", train_images=numbered(COUNT), test_images=numbered(COUNT) / 255)
    np.savez(tmp_path / "labels.npz", images=numbered(COUNT), labels=np.arange(7))
    np.savez(tmp_path / "real.npz", images=numbered(COUNT), labels=np.arange(COUNT) / 7)
    (tmp_path / "images.png").touch()
    messages = {
        "missing.npy": r"there is no file .*missing\.npy; set data\.root",
        "empty": r"there is no \.npy file in .*empty; set data\.root",
        "none.npy": r"none\.npy is not a sound \.npy file",
        "text.npz": r"text\.npz is not a sound \.npz file: File is not a zip file; save it again",
        "short.npy": r"short\.npy is not a sound .* it has 1,000 bytes, too few for an array of shape \(60, 8, 8\)",
        "sets.npz": r"sets\.npz has test_images, but no array of training images; add one",
        "mixed.npz": r"values of one type, got 8-bit in train, floating-point in test; convert them",
        "labels.npz": r"labels in .*labels\.npz must have one row of labels for each of 60 images, got",
        "real.npz": r"labels in .*real\.npz must be whole numbers or texts to be labels, got values of type float64",
        "images.png": r"data\.root must be a \.npy or \.npz file, or a folder of \.npy files, got",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            made(tmp_path / name).setup()


def test_a_wrong_root_ends_a_run_before_anything_is_written(program: Program, tmp_path: Path) -> None:
    code, printed = program("train", "data=array", f"data.root={tmp_path}/no.npy", f"run_dir={tmp_path / 'run'}")
    assert (code, printed.splitlines()[-1]) == (
        1,
        f"error: there is no file {tmp_path}/no.npy; set data.root to a .npy or .npz file, or a folder of .npy files",
    )
    assert not (tmp_path / "run").exists()


def test_metrics_of_three_channels_say_why_they_are_missing(stored: Path) -> None:
    from vaezoo.evaluation.features import inception_features
    from vaezoo.evaluation.inputs import Inputs
    from vaezoo.evaluation.settings import QUICK

    inputs = Inputs(made(stored), QUICK, torch.device("cpu"))
    assert "images of 1 or 3 channels, got 4" in str(inputs.distances["lpips"])
    assert inception_features(channels=4) == "Inception is for images of 1 or 3 channels, and these have 4"
