"""Loading of trained models from run folders, checkpoints or exported weights, of allowed classes only."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from vaezoo.config import own_code
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.hydra_config import check_parts, explain
from vaezoo.data import ImageDataModule
from vaezoo.data.pixels import BINARIZE
from vaezoo.data.settings import check_choice, check_fit, given_levels
from vaezoo.data.tables import Standardization, given
from vaezoo.evaluation import per_image
from vaezoo.evaluation.anomalies import AnomalyScorer
from vaezoo.metrics.mixtures import Mixture
from vaezoo.models import hub, model_card, stored_prior
from vaezoo.models.base import Autoencoder
from vaezoo.models.construction import make_model
from vaezoo.models.trained import Trained
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

    def trained(
        self, checkpoint: str | None = None, *, packages: Sequence[str] = OWN, root: str | None = None
    ) -> Trained:
        """The trained model with the preparation of its images, to apply it to others; arguments as above."""
        data = self.data(packages=packages, root=root)
        model = self.model(checkpoint, packages=packages)
        levels = given_levels(data.range)
        return Trained(model, data, data.fit, levels, data.binarize, data.standardization)

    def encode(self, images: str | Path = "test", **settings: Any) -> dict[str, NDArray[Any]]:
        """What the model says of each image of a split, an image file or a folder, as ``vaezoo encode`` writes it.

        Arrays with a row for each image: ``path`` or ``index``, ``label``, ``code`` (N, D), ``logvar`` (N, D),
        ``indices`` of discrete codes, and ``recon``, ``kl`` and ``elbo`` (N,) in nats, without those that the model
        does not have. ``settings`` are those of ``Trained.images``. DataError if there are no images.
        """
        trained = self.trained()
        return joined(per_image.encode(trained.model, trained.images(images, **settings)))

    def scorer(self, **settings: Any) -> AnomalyScorer:
        """Scores images by how unlike the training images they are; ``settings`` are those of ``Trained.scorer``."""
        return self.trained().scorer(**settings)

    def score(self, images: str | Path = "test", **settings: Any) -> dict[str, NDArray[Any]]:
        """The scores of each image of a split, an image file or a folder, as ``vaezoo score`` writes them.

        Arrays with a row for each image: ``path`` or ``index``, ``label``, and the scores (N,). ``settings`` are those
        of ``Trained.images``. DataError if there are no images.
        """
        trained = self.trained()
        return joined(rows for _, rows in trained.scorer().score(trained.images(images, **settings)))

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


def joined(parts: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Batches of rows as one array for each column; DataError without any rows."""
    gathered = list(parts)
    return {name: np.concatenate([part[name] for part in gathered]) for name in gathered[0]}


def load_trained(
    path: str | Path, checkpoint: str | None = None, *, packages: Sequence[str] = OWN, root: str | None = None
) -> Trained:
    """The model of ``load``, but not of a checkpoint file, with the preparation of its images."""
    path = located(path)
    if path.suffix not in (model_card.SUFFIX, ".json") or path.is_dir():
        return Run(path).trained(checkpoint, packages=packages, root=root)
    if checkpoint is not None or root is not None:
        raise ConfigError(f"{path} has exported weights, without checkpoints or a data set; leave these settings out")
    model, card = load_with_card(path, packages=packages)
    prepared: Any = card.get("data") if isinstance(card.get("data"), dict) else {}
    fit, levels, binarize = prepared.get("fit"), prepared.get("range"), prepared.get("binarize")
    try:
        check_fit(fit, levels, "image_folder")
        check_choice("binarize", binarize, BINARIZE)
        standardization = given(*(prepared.get(name) for name in Standardization._fields))
    except ConfigError as error:
        raise RunError(f"the card of {path} does not say how images are prepared: {error}; export it again") from error
    return Trained(model, None, fit, given_levels(levels), binarize, standardization)


def located(path: str | Path) -> Path:
    """A path on this machine: of ``hf://OWNER/NAME``, the weights in the cache of downloads."""
    return hub.download(str(path)) if str(path).startswith(hub.SCHEME) else Path(path)


def load(path: str | Path, checkpoint: str | None = None, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model in a run folder or in a file, on the CPU in evaluation mode.

    Args:
        path: a run folder, a checkpoint, or the weights or card that ``vaezoo export`` wrote; ``hf://OWNER/NAME`` is
            such an export on a hub, which is downloaded (see ``vaezoo.models.hub``).
        checkpoint: ``best`` or ``last`` for a run folder; None takes the best, or the last if there is no best.
        packages: only classes of these packages are created, so that a file cannot choose what code runs. Add your own
            package to load your own models.

    Raises:
        RunError: the file is missing, damaged or not vaezoo's, or its class is not in ``packages``.
    """
    path = located(path)
    if path.suffix == model_card.SUFFIX or (path.suffix == ".json" and not path.is_dir()):
        return load_exported(path, packages=packages)
    if path.is_file():
        return load_checkpoint(path, packages=packages)
    return Run(path).model(checkpoint, packages=packages)


def load_checkpoint(path: Path, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model in a checkpoint file; RunError if it is damaged, not vaezoo's, or its class is not in ``packages``."""
    return _made_of(path, checkpoints.read(path), packages)


def _made_of(path: Path, content: Mapping[str, Any], packages: Sequence[str]) -> Autoencoder:
    return make_model(path, content["model_class"], content["hyper_parameters"], content["state_dict"], packages)


def load_exported(path: Path, *, packages: Sequence[str] = OWN) -> Autoencoder:
    """The model of exported weights or their card, on the CPU in evaluation mode.

    The other file is found in the same folder by the SHA-256 in the card, whatever its name. RunError if it is missing
    or of another export, or if the card names a class that is not in ``packages``.
    """
    return load_with_card(path, packages=packages)[0]


def load_with_card(path: Path, *, packages: Sequence[str] = OWN) -> tuple[Autoencoder, dict[str, Any]]:
    """The same, with the content of the card."""
    if path.suffix == model_card.SUFFIX:
        weights, card = path, model_card.find_card(path)
    else:
        card = model_card.read_card(path)
        weights = model_card.find_weights(path, card)
    about = card["model"]
    stored = model_card.read_weights(weights)
    return make_model(weights, about["class"], about["hyper_parameters"], stored, packages), card


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
