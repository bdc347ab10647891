"""``ImageDataModule``: splits, loaders and example images of any data set."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor
from torch.utils.data import Dataset

from vaezoo.config.errors import ConfigError
from vaezoo.data import decoding_bottleneck, ranges, settings, tables
from vaezoo.data.images import Factor, Images, ImageTensor
from vaezoo.data.levels import Levels
from vaezoo.data.loader import Batch, InMemoryLoader, Loader, StreamingLoader
from vaezoo.data.named_images import NamedImages
from vaezoo.data.on_disk import ImagesOnDisk, Unreadable, decode_all, first_readable
from vaezoo.data.order import EvaluationOrder, TrainingOrder
from vaezoo.data.pixels import Shape, as_float, binarize_once, draw_binary
from vaezoo.data.sources import OF_ARRAYS, Source
from vaezoo.data.splits import divide, left_out_labels
from vaezoo.data.sprites import Lattice
from vaezoo.data.workers import how_many, most_workers
from vaezoo.runs import paths


class TrainingImages(NamedTuple):
    """Training images (x, y), their positions in the training split (B,), and the names of their files, if any."""

    positions: Tensor
    x: Tensor
    y: Tensor
    names: list[str] | None


class ImageDataModule(LightningDataModule):
    """Images of one source in three splits, in batches (x, y).

    x is float32 (B, C, H, W) in [0, 1]. y is int64: classes (B,), one column per factor (B, F), or -1 without labels.
    If a batch is divided between devices, it is (x, y, share); see ``vaezoo.distributed.batch_shares``. Without a
    running trainer, loaders yield whole batches on the CPU, and training images in the order of epoch 0, or of the
    epoch set with ``loader.sampler.set_epoch``.

    Args:
        source: "digits", "torchvision", "sprites", "image_folder", "array", "hdf5", "hf", "own" or "table".
        image_size: side of a square in pixels, or [height, width]; None for the size of the images in an array.
        channels: 1 or 3, to which files are converted, or any number for an array; None for as many as it has.
        fit: how images are resized to ``image_size``: "crop" scales the shorter side and crops the longer one,
            "pad" scales the longer side and adds black borders, "stretch" scales both sides independently.
        range: levels of files and arrays that become 0 and 1: "full", all levels of their type; [low, high]; or "auto",
            chosen by ``setup`` from training images. See ``vaezoo.data.ranges``. Levels outside are clipped in image
            files and refused in arrays.
        follow_links: whether to follow links to folders, and to files outside ``root``, in an image folder.
        key, label_key: arrays with the images and the labels; None for the usual names. ``label_key`` "none":
            no labels.
        columns: names of the columns of a table that are trained on; None for all but the labels. mean, std: of each of
            them, by which they are standardised; None for those of the training split, found by ``setup``.
        name: name of the data set in tables; by default that of the torchvision class, source or array's file.
        dataset: class in ``torchvision.datasets``, for source "torchvision"; for "own", a class or function as
            "package.module:name", or a Dataset or LightningDataModule (see ``vaezoo.data.own``).
        dataset_options: arguments of the class or function.
        root: folder of data sets; for source "image_folder", of the images; for "array", a file or folder.
        batch_size: images per training batch, over all devices.
        eval_batch_size: images per validation or test batch, over all devices.
        binarize: "none"; "threshold" at one half; or "dynamic", sampled with the pixel's value as probability, for each
            training batch anew, and once for validation and test.
        limit: number of training images; None for all.
        leave_out: classes, by number or name, that training and validation lose; the test split keeps them, so that it
            tells how well a model recognises what it was not trained on. None for no class.
        val_size, test_size: number of images or fraction of all, if there is no official split.
        split_seed: determines the splits. Must be equal in runs that are compared.
        seed: determines the order and noise of training.
        in_memory: whether to read image files or arrays once into memory; "auto" if they take at most
            ``memory_limit_gib``. Other sources are always in memory.
        num_workers: processes that decode image files; "auto" depends on the number of processors.
        drop_last: whether to drop a shorter last training batch.
    """

    def __init__(
        self,
        *,
        source: str,
        image_size: int | list[int] | None,
        channels: int | None,
        val_size: int | float,
        test_size: int | float | None = None,
        name: str | None = None,
        dataset: str | Dataset[Any] | LightningDataModule | None = None,
        dataset_options: dict[str, Any] | None = None,
        root: str = "data",
        key: str | None = None,
        label_key: str | None = None,
        columns: list[str] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        fit: str = "crop",
        range: str | list[float] = "auto",
        follow_links: bool = False,
        binarize: str = "none",
        limit: int | None = None,
        leave_out: list[int | str] | None = None,
        split_seed: int = 0,
        seed: int = 0,
        in_memory: str | bool = "auto",
        memory_limit_gib: float = 2.0,
        num_workers: str | int = "auto",
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        settings.check_names(source, dataset, binarize)
        settings.check_options(source, dataset_options)
        settings.check_fit(fit, range, source)
        settings.check_keys(key, label_key, source)
        settings.check_choice("follow_links", follow_links, (True, False))
        settings.check_leave_out(leave_out)
        settings.check_columns(source, columns, mean, std)
        place = paths.place(root, "data.root")
        origin = Source(source, dataset, place, (0, 0, 0), fit, follow_links, key, label_key, dataset_options, columns)
        self.standardization = tables.given(columns, mean, std)
        """Columns of a table with their means and standard deviations; None of images, and before ``setup``."""
        if source == "table":
            only = {"image_size": (image_size, None), "channels": (channels, None), "fit": (fit, "crop")}
            settings.check_table(only | {"binarize": (binarize, "none")})
            self.image_shape: Shape = (self.standardization or origin.opened()).image_shape(None)
        else:
            if source in OF_ARRAYS and (image_size is None or channels is None):
                own = origin.opened().image_shape(channels)
                image_size, channels = image_size or list(own[1:]), channels or own[0]
            self.image_shape = settings.checked_shape(image_size, channels, source)
        self.name = name or settings.default_name(source, dataset, place).lower()
        self.source = origin._replace(image_shape=self.image_shape)
        self.fit, self.range = fit, range
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size, self.test_size = val_size, test_size
        self.binarize, self.limit, self.split_seed, self.seed = binarize, limit, split_seed, seed
        self.leave_out = leave_out
        self.in_memory, self.memory_limit_gib = in_memory, memory_limit_gib
        self.num_workers, self.drop_last = num_workers, drop_last
        self._check_numbers()
        self.factors: tuple[Factor, ...] = ()
        self.left_out: tuple[int, ...] = ()
        """Labels of the classes in ``leave_out``, after ``setup``."""
        self._splits: dict[str, ImageTensor | ImagesOnDisk] = {}
        self._unreadable: dict[str, Unreadable] = {}
        self._streaming: WeakSet[StreamingLoader] = WeakSet()

    def _check_numbers(self) -> None:
        for key, least in (("batch_size", 1), ("eval_batch_size", 1), ("split_seed", 0), ("seed", 0)):
            settings.check_whole(key, getattr(self, key), least)
        if self.limit is not None:
            settings.check_whole("limit", self.limit, 1)
        settings.check_size("val_size", self.val_size)
        if self.test_size is not None:
            settings.check_size("test_size", self.test_size)
        if self.num_workers != "auto":
            settings.check_whole("num_workers", self.num_workers, 0, settings.MOST_WORKERS)
        settings.check_choice("in_memory", self.in_memory, ("auto", True, False))
        settings.check_choice("drop_last", self.drop_last, (True, False))
        if isinstance(self.memory_limit_gib, bool | str) or not 0 <= self.memory_limit_gib < math.inf:
            raise ConfigError(f"data.memory_limit_gib must be a number from 0 up, got {self.memory_limit_gib!r}")

    # From disk to splits

    def prepare_data(self) -> None:
        """Download or render missing data. Lightning calls it repeatedly, in one process per machine."""
        if not self._splits:
            self.source.prepare(self.limit)

    def setup(self, stage: str | None = None) -> None:
        """Read the images and divide them into splits; once, for all stages."""
        if self._splits:
            return
        pool = self.source.open()
        self.left_out = left_out_labels(pool.factors, self.leave_out)
        parts = divide(
            pool,
            val_size=self.val_size,
            test_size=self.test_size,
            split_seed=self.split_seed,
            limit=self.limit,
            left_out=self.left_out,
        )
        if isinstance(parts["train"], ImagesOnDisk):
            self._find_range(parts["train"])
        if isinstance(parts["train"], tables.Rows):
            self._standardize(parts["train"])
        parts = {split: self._with_settings(split, part) for split, part in parts.items()}
        in_memory = self._fits_in_memory(sum(_byte_count(part) for part in parts.values()))
        self._splits = {split: self._load(split, part, in_memory) for split, part in parts.items()}
        self.factors = pool.factors

    def _find_range(self, train: ImagesOnDisk) -> None:
        if self.range == "auto":
            self.range = ranges.setting(ranges.find(train))
        elif levels := settings.given_levels(self.range):
            ranges.refuse_unfit(train, levels)

    def _standardize(self, train: tables.Rows) -> None:
        if self.standardization is None:
            self.standardization = train.standardization()

    @property
    def _levels(self) -> Levels | None:
        """The levels that become 0 and 1; None for the full range."""
        return settings.given_levels(self.range)

    def _with_settings(self, split: str, part: Images) -> Images:
        """Images on disk with the settings of their split; all others as they are."""
        if not isinstance(part, ImagesOnDisk):
            return part
        return part.with_settings(self._method(split), self._levels, self.fit)

    def _method(self, split: str) -> str:
        """How a split is binarised when it is read: not at all if each batch is binarised anew."""
        return "none" if self._draws(split) else self.binarize

    def _fits_in_memory(self, byte_count: int) -> bool:
        if self.in_memory == "auto":
            return byte_count <= self.memory_limit_gib * 2**30
        return bool(self.in_memory)

    def _load(self, split: str, part: Images, in_memory: bool) -> ImageTensor | ImagesOnDisk:
        """A split for its loader, binarised unless each batch is binarised anew."""
        if isinstance(part, Lattice):
            return part.load()
        if isinstance(part, tables.Rows):
            assert self.standardization is not None
            return part.standardized(self.standardization)
        if isinstance(part, ImagesOnDisk):
            self._unreadable[split] = Unreadable(part)
            return decode_all(part, self._unreadable[split], self._workers(part)) if in_memory else part
        assert isinstance(part, ImageTensor)
        return replace(part, pixels=binarize_once(part.pixels, np.arange(len(part)), self._method(split)))

    @property
    def binarizes_anew(self) -> bool:
        """Whether every batch of training images is binarised anew."""
        return self.binarize == "dynamic" and self.source.name != "sprites"

    def _draws(self, split: str) -> bool:
        return split == "train" and self.binarizes_anew

    # From splits to batches

    def train_dataloader(self) -> InMemoryLoader | StreamingLoader:
        """Training images, in an order that depends only on seed and epoch. Lightning sets the epoch."""
        rank, world_size = self._place()
        # Lightning's overfit_batches wants the same few batches in every epoch.
        shuffled = self.trainer is None or not getattr(self.trainer, "overfit_batches", 0)
        order = TrainingOrder(
            len(self._split("train")),
            self.batch_size,
            seed=self.seed if shuffled else None,
            drop_last=self.drop_last,
            rank=rank,
            world_size=world_size,
        )
        return self._loader("train", order)

    def val_dataloader(self) -> InMemoryLoader | StreamingLoader:
        """All validation images, in a fixed order."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> InMemoryLoader | StreamingLoader:
        """All test images, in a fixed order."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> InMemoryLoader | StreamingLoader:
        """All test images, in a fixed order."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> InMemoryLoader | StreamingLoader:
        rank, world_size = self._place()
        order = EvaluationOrder(len(self._split(split)), self.eval_batch_size, rank=rank, world_size=world_size)
        return self._loader(split, order)

    def _loader(self, split: str, order: TrainingOrder | EvaluationOrder) -> InMemoryLoader | StreamingLoader:
        loader = self._stored_loader(split, order)
        loader.finish = None if self._running is not None else self._finished
        return loader

    def _stored_loader(self, split: str, order: TrainingOrder | EvaluationOrder) -> InMemoryLoader | StreamingLoader:
        images, device = self._split(split), self._device()
        noise_seed = self.seed if self._draws(split) else None
        if isinstance(images, ImagesOnDisk):
            workers = self._workers(images)
            pin_memory = device.type == "cuda"
            unreadable = self._unreadable[split]
            loader = StreamingLoader(unreadable, order, noise_seed, workers=workers, pin_memory=pin_memory)
            self._streaming.add(loader)
            return loader
        if _fits_on(device, images.byte_count):
            return InMemoryLoader(images.to(device), order, noise_seed)
        return InMemoryLoader(images, order, noise_seed, pin_memory=device.type == "cuda")

    def close(self) -> None:
        """Shut down the worker processes of all loaders."""
        for loader in self._streaming:
            loader.close()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Batch:
        """Move stored pixels and labels to the device."""
        assert isinstance(batch, Batch)
        images, labels = (tensor.to(device, non_blocking=True) for tensor in (batch.images, batch.labels))
        return batch._replace(images=images, labels=labels)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Any, ...]:
        """Convert stored pixels to (x, y) or (x, y, share), on the device."""
        assert isinstance(batch, Batch)
        return self._finished(batch)

    def _finished(self, batch: Batch) -> tuple[Any, ...]:
        x = as_float(batch.images, self.image_shape, self._levels)
        if batch.noise_seed is not None:
            x = draw_binary(x, batch.noise_seed, batch.share)
        return (x, batch.labels) if batch.share is None else (x, batch.labels, batch.share)

    # Queries

    def training_batches(self, places: Sequence[int]) -> TrainingImages | None:
        """Recreate batches of the trainer's current epoch by their index; None if it uses another loader."""
        loader = self.trainer.train_dataloader if self.trainer is not None else None
        if not isinstance(loader, Loader):
            return None
        found = [loader.reread(place) for place in places]
        x, y = (
            torch.cat(parts)
            for parts in zip(*(self.on_after_batch_transfer(batch, 0)[:2] for _, batch in found), strict=True)
        )
        positions = torch.cat([positions for positions, _ in found])
        name_of = self._name_of("train")
        names = None if name_of is None else list(map(name_of, positions.tolist()))
        return TrainingImages(positions, x, y, names)

    def _name_of(self, split: str) -> Callable[[int], str] | None:
        """The file name of the image at a position of a split; None if its images are not files."""
        if split not in self._unreadable:
            return None
        unreadable = self._unreadable[split]
        in_memory = isinstance(self._splits[split], ImageTensor)  # without the unreadable files
        kept = [place for place in range(len(unreadable.files)) if not (in_memory and place in unreadable.reasons)]
        return lambda position: unreadable.files.path(kept[position])

    def named_images(self, split: str) -> NamedImages:
        """The images of a split with the names of their files, if they are files, as used in evaluation."""
        settings.check_choice("split", split, ("train", "val", "test"))
        images = self._split(split)
        factors = self.factors if self.source.name == "image_folder" else ()
        classes = [str(value) for factor in factors for value in factor.values]
        workers = 0
        if isinstance(images, ImagesOnDisk):
            images = images.with_settings(self.binarize, self._levels, self.fit)
            workers = self._workers(images)
        named = NamedImages(images, self.image_shape, self.binarize, self._name_of(split), classes, workers)
        named.levels = self._levels
        return named

    def examples(self, count: int, split: str = "val") -> tuple[Tensor, Tensor]:
        """The first ``count`` images of a split, or all if it has fewer: (x, y) on the CPU, as used in evaluation.

        Independent of model, seed and batch size.
        """
        settings.check_choice("split", split, ("train", "val", "test"))
        images = self._split(split)
        count = min(count, len(images))
        if isinstance(images, ImagesOnDisk):
            positions, pixels, labels = first_readable(self._unreadable[split], count)
        else:
            positions, pixels, labels = np.arange(count), images.pixels[:count], images.labels[:count]
        binary = binarize_once(pixels, positions, self.binarize, self._levels)
        return as_float(binary, self.image_shape, self._levels), labels

    def labels(self, split: str) -> Tensor:
        """The labels of all images of a split, without decoding them: (N,), or one column per factor (N, F)."""
        return self._split(split).labels

    @property
    def classes(self) -> int | None:
        """Number of different labels of images that have one label each; None if they have none, or several."""
        self.setup()
        return len(self.factors[0].values) if len(self.factors) == 1 else None

    @property
    def has_known_factors(self) -> bool:
        """Whether the labels are the generative factors of the images, as disentanglement metrics require."""
        return self.source.name == "sprites"

    def describe(self) -> dict[str, Any]:
        """Description of the data for a run's record, in plain values, independent of file paths."""
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            **{split: len(self._split(split)) for split in ("train", "val", "test")},
            "split_seed": self.split_seed,
            "binarize": self.binarize,
            "fit": self.fit,
            "range": "full" if self.range == "auto" else self.range,
            **({} if self.leave_out is None else {"leave_out": list(self.leave_out)}),
            **({} if self.standardization is None else self.standardization.as_settings()),
            "skipped": sum(len(unreadable.reasons) for unreadable in self._unreadable.values()),
        }

    def held_back(self, waited: float, seconds: float, images: int) -> str | None:
        """A sentence if training was limited by decoding files, else None; see ``decoding_bottleneck.sentence``.

        ``waited`` of ``seconds`` of training were spent waiting for images.
        """
        train = self._split("train")
        if not isinstance(train, ImagesOnDisk):
            return None
        return decoding_bottleneck.sentence(
            waited,
            seconds,
            images,
            workers=self._workers(train),
            most_workers=most_workers(self._sharing()),
            byte_count=self._sharing() * sum(_byte_count(split) for split in self._splits.values()),
        )

    def _split(self, split: str) -> ImageTensor | ImagesOnDisk:
        self.setup()
        return self._splits[split]

    # This process and its device

    @property
    def _running(self) -> Trainer | None:
        """The attached trainer while it is running, else None; trainers stay attached after they have finished."""
        trainer = self.trainer
        return trainer if trainer is not None and trainer.state.status == TrainerStatus.RUNNING else None

    def _place(self) -> tuple[int, int]:
        """Rank and world size of this process."""
        return (0, 1) if self._running is None else (self._running.global_rank, self._running.world_size)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self._running is None else self._running.strategy.root_device

    def _workers(self, images: ImagesOnDisk) -> int:
        if self.num_workers != "auto":
            return int(self.num_workers)
        return how_many(len(images), sharing=self._sharing()) if images.workers_help else 0

    def _sharing(self) -> int:
        return 1 if self.trainer is None else self.trainer.num_devices


def _byte_count(images: Images) -> int:
    """Size in memory of images on disk; that of others does not matter, as they are in memory."""
    return len(images) * images.bytes_per_image if isinstance(images, ImagesOnDisk) else 0


def _fits_on(device: torch.device, byte_count: int) -> bool:
    """Whether to keep images on the device: on a CPU always, on a GPU if they take at most half of its free memory."""
    if device.type == "cuda":
        return byte_count <= torch.cuda.mem_get_info(device)[0] // 2
    return device.type == "cpu"
