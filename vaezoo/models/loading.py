"""Loading of trained models from run folders, checkpoints or exported weights, of allowed classes only."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaezoo.config import own_code
from vaezoo.config.errors import RunError
from vaezoo.config.hydra_config import check_parts, explain
from vaezoo.data import ImageDataModule
from vaezoo.metrics.mixtures import Mixture
from vaezoo.models import model_card, stored_prior
from vaezoo.models.base import Autoencoder
from vaezoo.runs import checkpoints, resuming, trust
from vaezoo.runs.folder import RunFolder
from vaezoo.runs.trust import OWN, belongs


class Run(RunFolder):
    """Read access to a run folder, its model and its data module.

    The constructor raises RunError if the folder is not a run; methods raise it for missing or unreadable parts.
    """

    def data(self, *, packages: Sequence[str] = OWN, root: str | None = None) -> ImageDataModule:
        """The data module of the run's config, reading images from ``root`` if given.

        Its loaders yield (x, y): x float32 (B, C, H, W) in [0, 1], y int64 (see ``ImageDataModule``). RunError if the
        config names a class outside of ``packages``, or settings that this version does not support.
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

    def model(self, checkpoint: str | None = None, *, packages: Sequence[str] = OWN) -> Autoencoder:
        """The trained model, on the CPU in evaluation mode (see ``load``); RunError if it does not match the config.

        It has the ``mixture`` that was fitted to its codes, and the ``index_prior`` that was fitted to its indices, if
        those were codes and indices of the same weights.
        """
        model, step = self.model_at_step(checkpoint, packages=packages)
        self.attach_index_prior(model, checkpoint, step)
        kept = self.mixture
        if kept is not None and (kept.get("checkpoint"), kept.get("step")) == (self.checkpoint(checkpoint).stem, step):
            model.mixture = self._mixture_of(model, kept)
        return model

    def attach_index_prior(self, model: Autoencoder, checkpoint: str | None, step: int | None) -> None:
        """Give a model of ``model_at_step`` the prior that was fitted to its indices, if there is one; RunError if that
        is damaged."""
        model.index_prior = stored_prior.read(self, model, self.checkpoint(checkpoint).stem, step)

    def index_prior_of(self, model: Autoencoder) -> str | None:
        """The SHA-256 of the weights of a model's prior over indices; None if it has none."""
        return None if model.index_prior is None or self.index_prior is None else self.index_prior["sha256"]

    def _mixture_of(self, model: Autoencoder, kept: dict[str, Any]) -> Mixture:
        """The mixture of ``mixture.json``; RunError if it is not one for the codes of this model."""
        try:
            mixture = Mixture.from_plain(kept)
            if mixture.dimensions != model.latent_dim:
                raise ValueError(f"its codes have {mixture.dimensions} dimensions, the model's {model.latent_dim}")
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(
                f"{self.path}/mixture.json cannot be used: {reason}; run vaezoo evaluate {self.path} again"
            ) from error
        return mixture

    def model_at_step(
        self, checkpoint: str | None = None, *, packages: Sequence[str] = OWN
    ) -> tuple[Autoencoder, int | None]:
        """The trained model without fitted priors, and the optimiser step when it was saved; RunError as above."""
        path = self.checkpoint(checkpoint)
        content = checkpoints.read(path)
        model = _made_of(path, content, packages)
        forced = {change["key"] for change in resuming.recorded(self.path)}
        resuming.refuse_other_model(path, self.config, type(model).__name__, model.hparams, forced)
        return model, content.get("global_step")


def load(path: str | Path, checkpoint: str | None = None, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model in a run folder or in a file, on the CPU in evaluation mode.

    Args:
        path: a run folder, a checkpoint, or the weights or card that ``vaezoo export`` wrote.
        checkpoint: ``best`` or ``last`` for a run folder; None takes the best, or the last if there is no best.
        packages: only classes of these packages are created, so that a file cannot choose what code runs. Add your own
            package to load your own models.

    Raises:
        RunError: the file is missing, damaged or not vaezoo's, or its class is not in ``packages``.
    """
    if Path(path).suffix == ".safetensors" or (Path(path).suffix == ".json" and not Path(path).is_dir()):
        return load_exported(Path(path), packages=packages)
    if Path(path).is_file():
        return load_checkpoint(Path(path), packages=packages)
    return Run(path).model(checkpoint, packages=packages)


def load_checkpoint(path: Path, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model in a checkpoint file; RunError if it is damaged, not vaezoo's, or its class is not in ``packages``."""
    return _made_of(path, checkpoints.read(path), packages)


def _made_of(path: Path, content: Mapping[str, Any], packages: Sequence[str]) -> Autoencoder:
    return make_model(path, content["model_class"], content["hyper_parameters"], content["state_dict"], packages)


def make_model(
    path: Path, cls: str, settings: Mapping[str, Any], weights: Mapping[str, Any], packages: Sequence[str]
) -> Autoencoder:
    """The model of class ``cls`` with these settings and weights, in evaluation mode.

    RunError, naming the file ``path``, if the class is not in ``packages`` or settings and weights do not fit it.
    """
    module, _, name = cls.rpartition(".")
    trust.check_own_code({"model": settings}, path, packages)
    if not belongs(module, packages):
        raise RunError(f"{path} asks for the class {cls}; to allow it, pass packages=[{module.partition('.')[0]!r}]")
    try:
        model = _build(_model_class(module, name), settings, weights)
    except Exception as error:  # a model may raise anything for wrong settings
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path} does not fit {cls} as it is installed here: {reason}") from error
    return model.eval()


def _model_class(module: str, name: str) -> type[Autoencoder]:
    """The subclass of Autoencoder that is defined in that module under that name; TypeError for anything else."""
    cls = getattr(import_module(module), name)
    if not (isinstance(cls, type) and issubclass(cls, Autoencoder) and cls.__module__ == module):
        raise TypeError("it is not a model")
    return cls


def load_exported(path: Path, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model of exported weights or their card, on the CPU in evaluation mode.

    The other file is found in the same folder by the SHA-256 in the card, whatever its name. RunError if it is missing
    or of another export, or if the card names a class that is not in ``packages``.
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
    """The model of a config on torch's meta device, without memory: a few bytes of settings can ask for terabytes.

    None for a user's own (so trusted) class, or one with the user's own network, that cannot be created there.
    """
    try:
        with torch.device("meta"):
            model: Autoencoder = instantiate(cfg.model, image_shape=list(image_shape))
            return model
    except InstantiationException:
        if belongs(str(cfg.model["_target_"]), OWN) and not own_code.is_own(cfg.model.get("network")):
            raise
        return None


def _build(cls: type[Autoencoder], settings: Mapping[str, Any], weights: Mapping[str, Any]) -> Autoencoder:
    """The model with these settings and weights; RuntimeError, before memory is allocated, if they do not fit.

    It is first created on torch's meta device, because a few bytes of settings can ask for terabytes. A user's own (so
    trusted) class or network that cannot be created there is created directly.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in cls(**settings).state_dict().items()}
    except (NotImplementedError, RuntimeError):
        if belongs(cls.__module__, OWN) and not own_code.is_own(settings.get("network")):
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
