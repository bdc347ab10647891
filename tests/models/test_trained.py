"""A trained model takes images as it took those of its training, with the labels that it knows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import ImageDataModule
from vaezoo.models import VAE, ConditionalVAE
from vaezoo.models.trained import Trained


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder with four grey images in the folder of each class."""

    def make(name: str, *classes: str) -> Path:
        for number, one in enumerate(classes):
            (tmp_path / name / one).mkdir(parents=True)
            for copy in range(4):
                pixels = np.full((8, 8), 20 * number + copy, np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / one / f"{copy}.png")
        return tmp_path / name

    return make


def conditional(classes: int) -> ConditionalVAE:
    return ConditionalVAE(image_shape=[1, 8, 8], widths=[8], classes=classes).eval()


def test_folders_have_the_numbers_of_those_of_training(folder: Callable[..., Path]) -> None:
    data = ImageDataModule(
        source="image_folder", root=str(folder("training", "3", "7", "cat")), image_size=8, channels=1, val_size=2,
        test_size=2,
    )  # fmt: skip
    trained = Trained(conditional(3), data, "crop", None, "none")
    assert trained.images(folder("new", "7", "cat")).labels.tolist() == [1] * 4 + [2] * 4
    assert set(trained.images("test").labels.tolist()) <= {0, 1, 2}
    with pytest.raises(DataError, match="needs the label of each image"):
        trained.images(folder("unknown", "3", "dog"))


def test_without_a_folder_of_its_own_classes_are_numbers(folder: Callable[..., Path]) -> None:
    trained = Trained(conditional(8), None, "crop", None, "none")
    images = trained.images(folder("new", "3", "7"))
    assert images.labels.tolist() == [3] * 4 + [7] * 4
    assert next(images.batches(8)).x[:, 0, 0, 0].mul(255).round().tolist() == [0, 1, 2, 3, 20, 21, 22, 23]
    with pytest.raises(ConfigError, match="images=test is a split of the data set of a run"):
        trained.images("test")


def test_images_are_prepared_as_in_training(folder: Callable[..., Path]) -> None:
    where = folder("new", "a", "b")
    trained = Trained(VAE(image_shape=[3, 16, 16], widths=[8]).eval(), None, "pad", (0, 40), "threshold")
    x = next(trained.images(where).batches(8)).x
    assert x.shape == (8, 3, 16, 16)
    assert torch.equal(x[:, 0, 0, 0], torch.tensor([0.0] * 4 + [1.0] * 4))  # 20 of 40 levels is a half


def test_images_of_several_labels_fit_beside_files(tmp_path: Path) -> None:
    data = ImageDataModule(
        source="sprites", root=str(tmp_path), image_size=64, channels=1, val_size=8, test_size=8, limit=8
    )
    trained = Trained(VAE(image_shape=[1, 64, 64], widths=[8]).eval(), data, "crop", None, "none")
    images = trained.images("test")
    batch = next(images.batches(8))
    assert images.columns(batch)["label"].shape == (8, 5)
    texts = images.as_texts("test")
    columns = texts.columns(next(texts.batches(8)))
    assert columns["path"].tolist() == [f"test/{number}" for number in range(8)]
    assert "label" not in columns
