"""``ImageDataModule`` as models, callbacks and Lightning see it."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor

from tests.data.operations import Operations
from vaezoo.config.errors import ConfigError
from vaezoo.data import ImageDataModule
from vaezoo.data.loader import InMemoryLoader

DIGITS: dict[str, Any] = {
    "source": "digits",
    "image_size": 16,
    "channels": 1,
    "val_size": 297,
    "test_size": 300,
    "batch_size": 32,
}


def digits(**changes: Any) -> ImageDataModule:
    return ImageDataModule(**{**DIGITS, **changes})


def batches(data: ImageDataModule, split: str = "train", epoch: int = 0) -> list[tuple[Tensor, Tensor]]:
    data.setup()
    loader = getattr(data, f"{split}_dataloader")()
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize(
    ("image_size", "channels", "shape"), [(16, 1, (1, 16, 16)), (8, 3, (3, 8, 8)), ([24, 40], 1, (1, 24, 40))]
)
def test_shape_is_known_before_any_data_is_read(
    image_size: Any, channels: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = digits(image_size=image_size, channels=channels)
    assert data.image_shape == shape
    for x, _ in batches(data, "val"):
        assert x.shape[1:] == shape


def test_batches_are_floats_in_0_to_1_and_class_numbers() -> None:
    for split in ("train", "val", "test"):
        for x, y in batches(digits(), split):
            assert x.dtype == torch.float32
            assert y.dtype == torch.int64
            assert x.min() >= 0
            assert x.max() <= 1
            assert y.shape == (len(x),)


def test_digits_at_their_own_size_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    wanted = {
        (round(float(image.sum())), int(label)) for image, label in zip(*load_digits(return_X_y=True), strict=True)
    }
    seen = set()
    for split in ("train", "val", "test"):
        for x, y in batches(digits(image_size=8), split):
            levels = (x * 16).sum((1, 2, 3)).round()
            seen |= set(zip(levels.int().tolist(), y.tolist(), strict=True))
    # Sixteenths are rounded to 255ths, so that a sum over 64 pixels may miss by one.
    assert all({(total - 1, label), (total, label), (total + 1, label)} & seen for total, label in wanted)


def test_describe_says_what_a_record_needs_and_not_where_files_lie() -> None:
    assert digits(root="/anywhere").describe() == {
        "name": "digits",
        "image_shape": [1, 16, 16],
        "train": 1200,
        "val": 297,
        "test": 300,
        "split_seed": 0,
        "binarize": "none",
        "fit": "crop",
        "range": "full",
        "skipped": 0,
    }
    assert digits(name="mine").describe()["name"] == "mine"


def test_examples_are_the_same_for_every_seed_and_batch_size() -> None:
    x, y = digits().examples(12)
    other_x, other_y = digits(seed=5, batch_size=7, eval_batch_size=11, limit=50).examples(12)
    assert torch.equal(x, other_x)
    assert torch.equal(y, other_y)
    assert len(set(y.tolist())) > 4


@pytest.mark.parametrize("binarize", ["none", "threshold", "dynamic"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_examples_are_the_first_images_that_evaluation_sees(split: str, binarize: str) -> None:
    data = digits(binarize=binarize, eval_batch_size=100)
    x = torch.cat([x for x, _ in batches(data, split)])
    assert torch.equal(data.examples(120, split)[0], x[:120])


def test_setting_up_again_changes_nothing() -> None:
    data = digits(binarize="dynamic")
    data.setup("fit")
    before = data.examples(10)[0]
    data.setup("test")
    data.setup()
    assert torch.equal(data.examples(10)[0], before)


def test_training_order_follows_the_seed_and_validation_does_not() -> None:
    first, again, other = (batches(digits(seed=seed))[0][1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(batches(digits(seed=0), "val")[0][0], batches(digits(seed=1), "val")[0][0])


def test_evaluation_is_binarised_once_and_training_anew() -> None:
    by_seed = [torch.cat([x for x, _ in batches(digits(binarize="dynamic", seed=seed), "val")]) for seed in (0, 1)]
    assert torch.equal(by_seed[0], by_seed[1])
    whole = digits(binarize="dynamic", batch_size=1200)
    first, again, next_epoch = (batches(whole, epoch=epoch)[0] for epoch in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    order = first[1].argsort(), next_epoch[1].argsort()
    assert not torch.equal(first[0][order[0]], next_epoch[0][order[1]])


def test_training_noise_has_the_pixel_as_its_mean() -> None:
    grey = batches(digits(batch_size=1200))[0][0]
    data = digits(batch_size=1200, binarize="dynamic")
    drawn = torch.zeros_like(grey)
    loader_order = None
    for epoch in range(100):
        data.setup()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        x, _ = next(iter(loader))
        assert set(x.unique().tolist()) == {0.0, 1.0}
        positions = loader.sampler.batches()[0]
        drawn[positions] += x / 100
        loader_order = positions if loader_order is None else loader_order
    fixed = torch.empty_like(grey)
    fixed[loader_order] = grey
    assert abs((drawn - fixed).mean().item()) < 1e-3
    assert (drawn - fixed).abs().max() < 0.3  # six standard deviations of a mean of 100 draws


@pytest.mark.parametrize("binarize", ["threshold", "dynamic"])
def test_streamed_images_are_binarised_as_those_in_memory(binarize: str, real_data: Path) -> None:
    def make(in_memory: bool) -> ImageDataModule:
        return ImageDataModule(
            source="image_folder",
            root=str(real_data / "cifar10-jpg" / "test"),
            image_size=16,
            channels=1,
            val_size=100,
            test_size=100,
            binarize=binarize,
            in_memory=in_memory,
            num_workers=0,
            eval_batch_size=40 if in_memory else 30,
        )

    memory, stream = (torch.cat([x for x, _ in batches(make(in_memory), "val")]) for in_memory in (True, False))
    assert torch.equal(memory, stream)
    assert set(stream.unique().tolist()) == {0.0, 1.0}


def test_real_photographs_are_classed_by_their_folders(real_data: Path) -> None:
    data = ImageDataModule(
        source="image_folder", root=str(real_data / "cifar10-jpg"), image_size=32, channels=3, val_size=0.1
    )
    described = data.describe()
    assert [described[split] for split in ("train", "val", "test")] == [4500, 500, 1000]
    assert data.factors[0].values[:3] == ("airplane", "automobile", "bird")
    assert torch.bincount(data.examples(1000, "test")[1]).tolist() == [100] * 10


def test_memory_limit_decides_between_memory_and_streaming(real_data: Path) -> None:
    def kind(**changes: Any) -> str:
        root = str(real_data / "cifar10-jpg" / "test")
        arguments = {"image_size": 8, "channels": 1, "val_size": 10, "test_size": 10, "num_workers": 0, **changes}
        data = ImageDataModule(source="image_folder", root=root, **arguments)
        data.setup()
        return type(data.val_dataloader()).__name__

    assert kind() == "InMemoryLoader"
    assert kind(memory_limit_gib=999 * 64 / 2**30) == "StreamingLoader"  # a thousand images of 64 bytes
    assert kind(memory_limit_gib=1000 * 64 / 2**30) == "InMemoryLoader"
    assert kind(in_memory=False) == "StreamingLoader"
    assert kind(in_memory=True, memory_limit_gib=0) == "InMemoryLoader"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "imagenet"}, r"data\.source must be one of digits, torchvision, sprites, image_folder"),
        ({"binarize": "yes"}, r"data\.binarize must be one of none, threshold, dynamic, got 'yes'"),
        ({"image_size": 7}, r"data\.image_size must be a whole number from 8 up, .* got 7"),
        ({"image_size": [16, 4]}, r"data\.image_size .* got \[16, 4\]"),
        ({"image_size": [16, 16, 16]}, r"data\.image_size"),
        ({"channels": 2}, r"data\.channels must be one of 1, 3, got 2"),
        ({"batch_size": 0}, r"data\.batch_size must be a whole number from 1 up, got 0"),
        ({"batch_size": True}, r"data\.batch_size"),
        ({"eval_batch_size": 2.5}, r"data\.eval_batch_size"),
        ({"limit": 0}, r"data\.limit must be a whole number from 1 up, got 0"),
        ({"val_size": 0}, r"data\.val_size must be a number of images or a fraction"),
        ({"test_size": 1.5}, r"data\.test_size"),
        ({"seed": -1}, r"data\.seed"),
        ({"in_memory": "yes"}, r"data\.in_memory must be one of auto, True, False, got 'yes'"),
        ({"memory_limit_gib": -1}, r"data\.memory_limit_gib"),
        ({"num_workers": "many"}, r"data\.num_workers"),
        ({"dataset": "MNIST"}, r"data\.dataset .* got 'MNIST' with data\.source=digits"),
        ({"source": "torchvision"}, r"data\.dataset .* got None with data\.source=torchvision"),
        ({"source": "sprites"}, r"data\.channels=1 and data\.image_size=64 only, got 1 and 16"),
    ],
)
def test_impossible_settings_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        digits(**changes)


def test_a_limit_above_what_there_is_says_how_many_there_are() -> None:
    with pytest.raises(ConfigError, match=r"data\.limit=1201 is more than the 1200 images"):
        digits(limit=1201).setup()
    assert digits(limit=1200).describe()["train"] == 1200


class Recorder(LightningModule):
    """Keeps the labels and pixel sums that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[tuple[float, list[int]]]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self._keep("train", batch)
        return self.weight * batch[0].mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._keep("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._keep("test", batch)

    def _keep(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        self.seen[split].append((x.double().sum().item(), y.tolist()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **changes: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(**{"default_root_dir": folder, "enable_checkpointing": False, **quiet, **changes})


# Lightning's own remarks on tiny runs
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def test_lightning_tells_the_epoch_and_evaluates_every_image_once(tmp_path: Path) -> None:
    data, model = digits(limit=96, eval_batch_size=100), Recorder()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    train = model.seen["train"]
    assert [len(labels) for _, labels in train] == [32] * 6
    assert train[:3] != train[3:]
    assert sum(total for total, _ in train[:3]) == pytest.approx(sum(total for total, _ in train[3:]))
    # The check before training saw two batches; each epoch then saw all from the first one on.
    assert [len(labels) for _, labels in model.seen["val"]] == [99] * (2 + 3 + 3)
    assert model.seen["val"][2:5] == model.seen["val"][5:]
    assert sum(len(labels) for _, labels in model.seen["test"]) == 300


@pytest.mark.parametrize("step", [4, 6, 8])
def test_a_resumed_run_sees_exactly_what_the_whole_run_saw(step: int, tmp_path: Path) -> None:
    def fit(checkpoint: Path | None) -> list[tuple[float, list[int]]]:
        data = digits(limit=180, batch_size=32, binarize="dynamic")  # six batches, the last of 20 images
        saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=step, save_top_k=-1)
        run, model = trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[saving]), Recorder()
        run.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return model.seen["train"]

    whole = fit(None)
    assert len(whole) == 12
    assert fit(tmp_path / f"step={step}.ckpt") == whole[step:]


def test_overfitting_sees_the_same_batches_in_every_epoch(tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path, max_epochs=2, overfit_batches=2).fit(model, datamodule=digits())
    assert model.seen["train"][:2] == model.seen["train"][2:]


def all_pixels() -> int:
    """Bytes of all uint8 storages that are alive, each counted once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if type(thing) is Tensor and thing.dtype == torch.uint8:
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


@pytest.mark.parametrize("source", ["digits", "sprites", "image_folder"])
def test_images_lie_in_memory_once(source: str, tmp_path: Path) -> None:
    before = all_pixels()
    changes: dict[str, Any] = {"source": source}
    if source == "sprites":
        changes |= {"root": str(tmp_path), "image_size": 64, "limit": 2000}
    if source == "image_folder":
        changes |= {"root": str(tmp_path), "val_size": 10, "test_size": 10}
        for number in range(100):
            Image.new("L", (16, 16), number).save(tmp_path / f"{number}.png")
    data = digits(**changes)
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    count = sum(data.describe()[split] for split in ("train", "val", "test"))
    bytes_per_image = 64 * 64 // 8 if source == "sprites" else 16 * 16
    assert all_pixels() - before == count * bytes_per_image
    assert all(isinstance(loader, InMemoryLoader) for loader in loaders)


@pytest.mark.parametrize(
    "changes", [{}, {"binarize": "dynamic"}, {"source": "sprites", "image_size": 64, "limit": 300}]
)
def test_a_batch_becomes_floats_by_as_many_operations_whatever_its_size(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """And none of them waits for the device, as reading a number off it would."""
    names = []
    for batch_size in (16, 128):
        data = digits(**changes, batch_size=batch_size, root=str(tmp_path))
        batch = next(data.train_dataloader().stored())
        with Operations() as counted:
            data.on_after_batch_transfer(batch, 0)
        names.append(counted.names)
    assert names[0] == names[1]
    assert len(names[0]) < 10
    assert not set(names[0]) & {"aten::_local_scalar_dense", "aten::nonzero", "aten::item"}


@pytest.mark.parametrize(
    "changes", [{}, {"binarize": "dynamic"}, {"source": "sprites", "image_size": 64, "limit": 200}]
)
def test_loaders_iterated_by_hand_give_what_a_model_is_trained_on(changes: dict[str, Any], tmp_path: Path) -> None:
    data = digits(**changes, root=str(tmp_path))
    seen = Seen()
    Trainer(max_epochs=1, accelerator="cpu", **{**QUIET, "default_root_dir": tmp_path}).fit(seen, datamodule=data)
    for loader in (data.train_dataloader(), digits(**changes, root=str(tmp_path)).train_dataloader()):
        for (x, y), (wanted, labels) in zip(loader, seen.batches, strict=True):
            assert x.dtype == torch.float32
            assert y.dtype == torch.int64
            assert 0 <= x.min() <= x.max() <= 1
            assert torch.equal(x, wanted)
            assert torch.equal(y, labels)


def test_a_running_trainer_gets_stored_pixels_and_a_loader_of_its_own_pixels_of_a_model(tmp_path: Path) -> None:
    settings = {"max_epochs": 2, "accelerator": "cpu", **QUIET, "default_root_dir": tmp_path}
    by_module, by_loader, data = Seen(), Seen(), digits(binarize="dynamic")
    Trainer(**settings).fit(by_module, datamodule=data)
    Trainer(**settings).fit(by_loader, data.train_dataloader())
    assert by_module.transferred == {torch.uint8}
    assert by_loader.transferred == {torch.float32}
    for one, other in zip(by_module.batches, by_loader.batches, strict=True):
        assert torch.equal(one[0], other[0])


QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}


class Seen(LightningModule):
    """Keeps the batches that it is trained on, and the types in which pixels came to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.transferred: set[torch.dtype] = set()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.transferred.add(batch[0].dtype)
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((batch[0].clone(), batch[1].clone()))
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)
