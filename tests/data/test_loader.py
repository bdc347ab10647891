"""Loaders: labels stay with their images, positions are saved, and no global random state is touched."""

from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.operations import Operations
from vaezoo.data.array_files import open_arrays
from vaezoo.data.arrays import ArrayImages, layout_of
from vaezoo.data.files import ImageFiles
from vaezoo.data.images import ImageTensor
from vaezoo.data.loader import InMemoryLoader, Loader, StreamingLoader
from vaezoo.data.on_disk import Unreadable
from vaezoo.data.order import EvaluationOrder, TrainingOrder

COUNT = 20


@pytest.fixture(params=["memory", "streaming", "workers", "array"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, folder: Path, *, training: bool = True, noise_seed: int | None = None) -> Loader:
    """A loader over images whose every pixel is ten times their label."""
    order = TrainingOrder(COUNT, 6, seed=0) if training else EvaluationOrder(COUNT, 6)
    labels = torch.arange(COUNT)
    if kind == "memory":
        pixels = labels.mul(10).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
        return InMemoryLoader(ImageTensor(pixels, labels), order, noise_seed)
    if kind == "array":
        np.save(folder / "images.npy", np.repeat(10 * np.arange(COUNT, dtype=np.uint8), 64).reshape(COUNT, 8, 8))
        array = open_arrays(folder)["images"]
        images = ArrayImages(array, layout_of(array, 1), np.arange(COUNT), labels, (1, 8, 8))
        return StreamingLoader(Unreadable(images), order, noise_seed)
    paths = [folder / f"{label}.png" for label in range(COUNT)]
    for label, path in enumerate(paths):
        Image.fromarray(np.full((8, 8), 10 * label, np.uint8)).save(path)
    files = ImageFiles.of(paths, labels, (1, 8, 8))
    return StreamingLoader(Unreadable(files), order, noise_seed, workers=2 if kind == "workers" else 0)


def labels_of(loader: Loader) -> list[int]:
    return [label for batch in loader for label in batch.labels.tolist()]


def test_labels_stay_with_their_images(kind: str, tmp_path: Path) -> None:
    for batch in make(kind, tmp_path):
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.images[:, 0, 0, 0].long(), 10 * batch.labels)


def test_every_image_comes_once_in_each_epoch_and_in_another_order(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path)
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append(labels_of(loader))
        assert sorted(epochs[-1]) == list(range(COUNT))
    assert epochs[0] != epochs[1]


def test_evaluation_keeps_the_order(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path, training=False)
    assert labels_of(loader) == labels_of(loader) == list(range(COUNT))


def test_a_loaded_position_goes_on_in_the_middle_of_the_epoch(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path, noise_seed=7)
    loader.sampler.set_epoch(5)
    batches = list(loader)
    passing = iter(loader)
    next(passing)
    next(passing)

    resumed = make(kind, tmp_path, noise_seed=7)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.state_dict() == loader.state_dict() == {"epoch": 5, "position": 2}
    resumed.sampler.set_epoch(5)
    rest = list(resumed)
    assert len(rest) == len(batches) - 2
    assert len(resumed) == len(batches)
    for got, wanted in zip(rest, batches[2:], strict=True):
        assert torch.equal(got.images, wanted.images)
        assert got.noise_seed == wanted.noise_seed


def test_a_pass_that_was_broken_off_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path, training=False)
    next(iter(loader))
    assert labels_of(loader) == list(range(COUNT))


def test_asking_for_an_iterator_reads_nothing_until_the_epoch_is_known(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path)
    passing = iter(loader)
    loader.sampler.set_epoch(1)
    first = next(passing).labels
    assert torch.equal(first, loader.sampler.batches()[0])


def test_noise_seed_differs_between_batches_and_epochs_and_is_the_same_in_all_processes(tmp_path: Path) -> None:
    loader = make("memory", tmp_path, noise_seed=0)
    seeds = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seeds += [batch.noise_seed for batch in loader]
    assert len(set(seeds)) == len(seeds) == 8
    loader.sampler.rank, loader.sampler.world_size = 1, 2
    assert [batch.noise_seed for batch in loader] == seeds[4:]


@pytest.mark.parametrize("training", [True, False])
def test_a_share_of_which_nothing_can_be_read_is_stood_in_for_and_weighs_nothing(
    training: bool, tmp_path: Path
) -> None:
    loader = make("streaming", tmp_path, training=training)
    loader.sampler.rank, loader.sampler.world_size = 1, 2
    assert isinstance(loader, StreamingLoader)
    lost = loader.sampler.batches()[0].tolist()
    for position in lost:
        Path(loader.unreadable.files.path(position)).write_bytes(b"")
    loader.unreadable.check = lambda: None  # type: ignore[method-assign]  # so few files are more than 1%
    batches = list(loader)
    assert len(batches) == 4
    assert batches[0].labels.tolist() == [min(set(range(COUNT)) - set(lost))]
    assert [batch.share.size for batch in batches if batch.share] == [0, *([len(b.labels) for b in batches[1:]])]


def test_loading_leaves_the_global_random_state_alone(kind: str, tmp_path: Path) -> None:
    loader = make(kind, tmp_path, noise_seed=0)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds_per_image", [0.0, 1.0, 5.0])
def test_only_the_time_until_a_batch_is_there_is_waited(
    seconds_per_image: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def slow(path: str, image_shape: tuple[int, int, int], *_: Any) -> np.ndarray:
        clock.now += seconds_per_image
        return np.zeros(image_shape, np.uint8)

    loader = make("streaming", tmp_path)
    assert isinstance(loader, StreamingLoader)
    monkeypatch.setattr("vaezoo.data.files.decode", slow)
    monkeypatch.setattr("vaezoo.data.loader.time.perf_counter", clock)
    for epoch in range(2):
        for _ in loader:
            clock.now += 1000  # a training step
        assert loader.waited == (epoch + 1) * COUNT * seconds_per_image


def test_workers_decode_with_one_thread_each_and_live_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(path: str, image_shape: tuple[int, int, int], *_: Any) -> np.ndarray:
        return np.full(image_shape, torch.get_num_threads(), np.uint8)

    loader = make("workers", tmp_path)
    monkeypatch.setattr("vaezoo.data.files.decode", threads)
    torch.set_num_threads(3)
    before = set(active_children())
    assert all(bool((batch.images == 1).all()) for batch in loader)
    workers = set(active_children()) - before
    assert len(workers) == 2
    list(loader)
    assert set(active_children()) - before == workers


def test_a_batch_from_memory_is_two_lookups_and_nothing_else(tmp_path: Path) -> None:
    loader = make("memory", tmp_path, noise_seed=0)
    passing = iter(loader)
    next(passing)  # the order of the whole epoch is made before
    with Operations() as counted:
        next(passing)
        next(passing)
    assert counted.names == ["aten::index_select"] * 4
