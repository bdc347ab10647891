"""A trained model together with how its images are prepared, to apply it to images of a data set or to files."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import ImageDataModule
from vaezoo.data.levels import Levels
from vaezoo.data.named_images import NamedImages, images_at
from vaezoo.data.tables import Standardization, read_rows
from vaezoo.data.workers import how_many
from vaezoo.evaluation import anomalies
from vaezoo.evaluation.per_image import BATCH
from vaezoo.models.base import Autoencoder

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Trained:
    """A model, its data module (None for exported weights), and the preparation of files, as in ``data.*``.

    ``standardization`` is that of a table, None for a model of images.
    """

    model: Autoencoder
    data: ImageDataModule | None
    fit: str
    levels: Levels | None
    binarize: str
    standardization: Standardization | None = None

    def images(self, where: str | Path, *, label: int | None = None, follow_links: bool = False) -> NamedImages:
        """The images of a split by its name, an image file, or those in a folder, prepared as in training; of a model
        of a table, the rows of a split or of a file.

        The labels that a conditional model needs are those of the split, ``label`` for all images, or the names of the
        folders in the folder. ConfigError or DataError if there are no such images or labels.
        """
        is_split = str(where) in SPLITS
        found = self._split(str(where)) if is_split else self._files(Path(where), follow_links)
        if label is not None:
            return self._with_label(found, label)
        if not self.model.is_conditional:
            return found
        found = found if is_split else self._numbered(found)
        if bool((found.labels < 0).any()):
            raise DataError(
                f"{type(self.model).__name__} needs the label of each image; set label=NUMBER for all of them, or put"
                " them into a folder for each class"
            )
        return found

    def scorer(
        self,
        *,
        neighbours: int = anomalies.NEIGHBOURS,
        train_images: int = anomalies.MOST_CODES,
        draws: int = anomalies.DRAWS,
        seed: int = 0,
    ) -> anomalies.AnomalyScorer:
        """Scores images as anomalies, also by their distance from codes of ``train_images`` training images if there
        are any; see ``vaezoo.evaluation.anomalies``."""
        codes = None
        if self.data is not None:
            train = self.images("train")
            codes = anomalies.training_codes(self.model, train.batches(BATCH), train_images)
        fitted = None if codes is None else anomalies.TrainingCodes.fit(codes, neighbours)
        return anomalies.AnomalyScorer(self.model, fitted, draws, seed)

    def _split(self, name: str) -> NamedImages:
        if self.data is None:
            raise ConfigError(
                f"images={name} is a split of the data set of a run, which exported weights do not have; give a folder"
                f" or an image file, such as ./{name}"
            )
        self.data.prepare_data()
        self.data.setup()
        return self.data.named_images(name)

    def _files(self, path: Path, follow_links: bool) -> NamedImages:
        if self.standardization is not None:
            key, label_key = (None, None) if self.data is None else (self.data.source.key, self.data.source.label_key)
            return NamedImages(read_rows(path, self.standardization, key, label_key), self.model.image_shape)
        found = images_at(
            path,
            self.model.image_shape,
            fit=self.fit,
            levels=self.levels,
            binarize=self.binarize,
            follow_links=follow_links,
        )
        return replace(found, workers=how_many(len(found)))

    def _with_label(self, found: NamedImages, label: int) -> NamedImages:
        classes = self.model.classes
        if classes is None:
            raise ConfigError(f"label={label} is for a conditional model, and {type(self.model).__name__} is not one")
        if not 0 <= label < classes:
            raise ConfigError(f"label must be from 0 to {classes - 1}, got {label}")
        return found.labelled(label)

    def _numbered(self, found: NamedImages) -> NamedImages:
        """The images with the numbers by which the model knows the names of their folders."""
        if not found.classes:
            return found
        known = self._class_names()
        numbers = [known.index(name) if name in known else -1 for name in found.classes]
        labels = torch.tensor([*numbers, -1])[found.labels]
        return found.with_labels(labels)

    def _class_names(self) -> list[str]:
        """The names of the folders of the model's classes in order: those of its own folder of images, or numbers."""
        if self.data is not None and self.data.source.name == "image_folder":
            return [str(value) for value in self.data.source.open().factors[0].values]
        return [str(number) for number in range(self.model.classes or 0)]
