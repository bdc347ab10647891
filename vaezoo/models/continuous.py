"""Base class of autoencoders with continuous codes, with prior and penalty as axes of their own."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.models.base import Autoencoder
from vaezoo.nn.penalties import make_penalty
from vaezoo.nn.priors import make_prior
from vaezoo.nn.priors.base import Prior


class ContinuousAutoencoder(Autoencoder):
    """Autoencoder with continuous codes, which may have a prior and a penalty.

    Args:
        prior: p(z) by name (see ``vaezoo.nn.priors``), or None for none; prior_options: its arguments.
        penalty: a term that is added, by name (see ``vaezoo.nn.penalties``), or None; penalty_options: its arguments,
            such as its weight.

    Raises:
        ConfigError: an unknown name or option, or parts that cannot be combined.
    """

    auxiliary = (*Autoencoder.auxiliary, "prior_model", "penalty")
    learns_prior = False
    """Whether the objective has gradients for the parameters of a prior."""

    def __init__(
        self,
        *,
        prior: str | None = None,
        prior_options: dict[str, Any] | None = None,
        penalty: str | None = None,
        penalty_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.prior_model = (
            None
            if prior is None
            else make_prior(prior, self.image_shape, self.latent_dim, prior_options, self.hparams.get("classes"))
        )
        self.penalty = None if penalty is None else make_penalty(penalty, self.latent_dim, penalty_options)
        self._refuse_parts()
        self._refuse_monitor()

    @property
    def has_moments(self) -> bool:
        """Whether posteriors have independent Gaussian dimensions."""
        return False

    def _refuse_parts(self) -> None:
        """ConfigError for a prior or a penalty that this model cannot have."""
        for key, part in {"prior": self.prior_model, "penalty": self.penalty}.items():
            if part is not None and part.needs_moments and not self.has_moments:
                found = self.hparams.get("posterior")
                remedy = (
                    f"set model.posterior=diagonal instead of {found}"
                    if found not in (None, "diagonal")
                    else "choose a VAE that has one"
                )
                raise ConfigError(
                    f"model.{key}={self.hparams[key]} needs a posterior of independent Gaussian dimensions; {remedy}"
                )
        if self.penalty is not None and self.penalty.needs_prior and self.prior_model is None:
            raise ConfigError(
                f"model.penalty={self.hparams['penalty']} compares codes with draws of a prior, and model.prior is"
                " null; set model.prior=normal"
            )
        if self.prior_model is not None and self.prior_model.is_spherical != self.is_spherical:
            raise ConfigError(
                f"model.prior={self.hparams['prior']} and the codes of {type(self).__name__} do not go together,"
                " because only one of them is on the sphere; set both model.posterior=power_spherical and"
                " model.prior=uniform_sphere, or neither"
            )
        if self.prior_model is not None and not self.learns_prior and list(self.prior_model.parameters()):
            raise ConfigError(
                f"model.prior={self.hparams['prior']} is learned with the KL of a VAE, which {type(self).__name__} does"
                " not have; set model.prior to normal, or to null for no prior"
            )

    @property
    def batch_statistic(self) -> str | None:
        """The setting by which the objective contains a biased statistic of training batches; None if it does not."""
        biased = self.penalty is not None and self.penalty.is_batch_statistic
        return f"model.penalty={self.hparams['penalty']}" if biased else None

    def _refuse_monitor(self) -> None:
        """ConfigError for a schedule that watches an objective which validation does not have."""
        watched = {"monitor": "val/loss", **(self._scheduler or {})}
        if (
            self.batch_statistic is not None
            and watched.get("name") == "ReduceLROnPlateau"
            and watched["monitor"] == "val/loss"
        ):
            metric, mode = type(self).selection or ("val/recon", "min")
            raise ConfigError(
                f"model.scheduler watches val/loss, which {self.batch_statistic} does not have in"
                " validation, because it is a biased statistic of training batches; set model.scheduler.monitor to"
                f" {metric} and model.scheduler.mode to {mode}"
            )

    def prior(self) -> Prior | None:
        return None if self.prior_model is None else self.prior_model(self.posterior, self.device)

    def explain_weights(self) -> list[str]:
        if self.prior_model is None or self.hparams["prior"] == "normal":
            return super().explain_weights()
        return [f"prior: {self.prior_model.describe()}", *super().explain_weights()]

    @property
    def wants_images(self) -> int:
        return 0 if self.prior_model is None else self.prior_model.wants_images

    def start_from(self, images: Tensor) -> None:
        if self.prior_model is not None:
            self.prior_model.start_from(images, self.posterior)
