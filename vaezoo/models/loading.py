"""A trained model from a run folder, a checkpoint or exported weights. It creates only classes that are allowed."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaezoo.config.errors import RunError
from vaezoo.config.hydra_config import check_parts, explain
from vaezoo.data import ImageDataModule
from vaezoo.models import model_card
from vaezoo.models.base import Autoencoder
from vaezoo.runs import checkpoints, resuming, trust
from vaezoo.runs.folder import RunFolder
from vaezoo.runs.trust import belongs


class Run(RunFolder):
    """A run folder, with its model and its data module.

    Raises RunError, here or when something is asked for, if the folder is not a run or lacks what is asked for.
    """

    def data(self, *, packages: Sequence[str] = trust.OWN, root: str | None = None) -> ImageDataModule:
        """The data module of its config, with the images in ``root`` if given.

        Its loaders give (x, y): x float32 (B, C, H, W) in [0, 1], y int64, as ``ImageDataModule`` says. RunError if the
        config asks for a class that is not in ``packages``, or for what this version does not have.
        """
        plain: Any = OmegaConf.to_container(self.config)
        if not isinstance(plain.get("data"), dict):
            raise RunError(f"{self.path}/config.yaml has no data")
        trust.check_config({"data": plain["data"]}, self.path, packages=packages)
        settings = plain["data"] | ({} if root is None else {"root": root})
        try:
            check_parts(settings, "data")
            made: ImageDataModule = instantiate(settings)
        except Exception as error:
            if (sentence := explain(error)) is None:
                raise
            raise RunError(f"{self.path}/config.yaml cannot be used: {sentence}") from error
        return made

    def model(self, checkpoint: str | None = None, *, packages: Sequence[str] = ("vaezoo",)) -> Autoencoder:
        """The trained model, on the CPU and in evaluation mode (see ``load``); RunError if it is not the config's."""
        path = self.checkpoint(checkpoint)
        model = load_checkpoint(path, packages=packages)
        forced = {change["key"] for change in resuming.recorded(self.path)}
        resuming.refuse_other_model(path, self.config, type(model).__name__, model.hparams, forced)
        return model


def load(path: str | Path, checkpoint: str | None = None, *, packages: Sequence[str] = ("vaezoo",)) -> Autoencoder:
    """The model of a run folder (its ``best`` weights unless ``checkpoint`` says ``last``) or of a file:
    a checkpoint, or weights that ``vaezoo export`` wrote or their card, whatever they are called.

    It comes on the CPU, in evaluation mode. Only classes from ``packages`` are made, so that a file from elsewhere
    cannot choose what is run: name your own package here to load your own models.
    """
    if Path(path).suffix == ".safetensors" or (Path(path).suffix == ".json" and not Path(path).is_dir()):
        return load_exported(Path(path), packages=packages)
    if Path(path).is_file():
        return load_checkpoint(Path(path), packages=packages)
    return Run(path).model(checkpoint, packages=packages)


def load_checkpoint(path: Path, *, packages: Sequence[str] = ("vaezoo",)) -> Autoencoder:
    """The model that a checkpoint file holds; RunError if it is damaged, not vaezoo's or of a class not allowed."""
    content = checkpoints.read(path)
    return make_model(path, content["model_class"], content["hyper_parameters"], content["state_dict"], packages)


def make_model(
    path: Path, cls: str, settings: Mapping[str, Any], weights: Mapping[str, Any], packages: Sequence[str]
) -> Autoencoder:
    """The model of class ``cls`` that the file ``path`` describes; RunError if it is not allowed or does not fit."""
    module, _, name = cls.rpartition(".")
    if not belongs(module, packages):
        raise RunError(f"{path} asks for the class {cls}; to allow it, pass packages=[{module.partition('.')[0]!r}]")
    try:
        model = _build(_model_class(module, name), settings, weights)
    except Exception as error:  # whatever a model raises for settings that are none of its own
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path} does not fit {cls} as it is installed here: {reason}") from error
    return model.eval()


def _model_class(module: str, name: str) -> type[Autoencoder]:
    """The model of that name that is defined in that module, and nothing else that can be called."""
    cls = getattr(import_module(module), name)
    if not (isinstance(cls, type) and issubclass(cls, Autoencoder) and cls.__module__ == module):
        raise TypeError("it is not a model")
    return cls


def load_exported(path: Path, *, packages: Sequence[str] = trust.OWN) -> Autoencoder:
    """The model of exported weights or of their card, on the CPU and in evaluation mode.

    The other of the two is found in the same folder by the SHA-256 in the card, whatever the files are called.
    RunError if it is missing or of another export, or if the card asks for a class that is not in ``packages``.
    """
    if path.suffix == model_card.SUFFIX:
        weights, card = path, model_card.find_card(path)
    else:
        card = model_card.read_card(path)
        weights = model_card.find_weights(path, card)
    return make_model(
        weights, card["model"]["class"], card["model"]["hyper_parameters"], model_card.read_weights(weights), packages
    )


def make_on_meta_device(cfg: Any, image_shape: Sequence[int]) -> Autoencoder | None:
    """The model that a config asks for on torch's meta device, whose shapes cost nothing, though a few bytes of
    settings can ask for terabytes; None for a class of the user's own that cannot be made so: its package was trusted.
    """
    try:
        with torch.device("meta"):
            model: Autoencoder = instantiate(cfg.model, image_shape=list(image_shape))
            return model
    except InstantiationException:
        if belongs(str(cfg.model["_target_"]), trust.OWN):
            raise
        return None


def _build(cls: type[Autoencoder], settings: Mapping[str, Any], weights: Mapping[str, Any]) -> Autoencoder:
    """The model of these settings with these weights; RuntimeError, before memory is taken, where they do not fit.

    It is first made without memory (on torch's meta device), as settings of a few bytes can ask for terabytes. A class
    of the user's own that cannot be made so is made at once: its package was trusted.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in cls(**settings).state_dict().items()}
    except (NotImplementedError, RuntimeError):
        if belongs(cls.__module__, trust.OWN):
            raise
        wanted = {name: tensor.shape for name, tensor in weights.items()}
    wrong = [name for name, shape in wanted.items() if name in weights and weights[name].shape != shape]
    lacking = sorted(wanted.keys() ^ weights.keys())
    if wrong:
        name = wrong[0]
        raise RuntimeError(
            f"{name} is {list(weights[name].shape)} in the file and {list(wanted[name])} by its settings"
        )
    if lacking:
        raise RuntimeError(f"its weights do not match its settings: missing or unexpected {', '.join(lacking[:3])}")
    model = cls(**settings)
    model.load_state_dict(weights)
    return model
