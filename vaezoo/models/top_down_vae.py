"""The convolutional hierarchical VAE."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.nn.posteriors.top_down import SpatialLevels, make_top_down


class TopDownVAE(BetaVAE):
    """VAE with levels of spatial codes at several resolutions, drawn from the top down (Vahdat and Kautz, 2020).

    It minimises recon + beta sum_l KL_l in nats, with free bits for each level, and beta rising from 0 to 1 at first,
    without which levels are given up. ``kl_1`` is the rate of the top level, which is the coarsest. A code has the
    levels side by side, top first. It is a small NVAE: posteriors are relative to priors, residual branches are scaled
    by 1 / sqrt(depth), as VDVAE (Child, 2021) scales their initial weights, and there is no batch norm. It has a
    network of its own, and, with a warm-up, the bound is the ELBO. Moments of single dimensions, their KL and the parts
    of the average KL are n/a.

    Args:
        widths: channels of each resolution, from half the image's size to an eighth by default; fewer numbers are
            fewer resolutions.
        level_channels: channels of the codes at each resolution, the coarsest first.
        blocks: levels at each resolution.

    Raises:
        ConfigError: an argument is out of range, or a posterior, prior or network that is not for hierarchies.
    """

    networks = ("top_down",)
    posterior_model: SpatialLevels

    def __init__(
        self,
        *,
        level_channels: Sequence[int] = (16, 8, 4),
        blocks: int = 2,
        network: str = "top_down",
        latent_dim: int | None = None,
        beta: float = 1.0,
        beta_schedule: str = "linear",
        schedule_steps: int = 2_000,
        free_bits: float | None = 0.5,
        **shared: Any,
    ) -> None:
        warm_up: dict[str, Any] = {"beta": beta, "beta_schedule": beta_schedule, "schedule_steps": schedule_steps}
        super().__init__(network=network, latent_dim=latent_dim, free_bits=free_bits, **warm_up, **shared)

    def _make_networks(
        self, network: str, widths: list[int] | None, latent_dim: int | None, code_channels: int | None
    ) -> None:
        if latent_dim is not None or code_channels is not None:
            raise ConfigError(
                "model.latent_dim and model.code_channels follow from model.level_channels and the images; set null"
            )
        self._refuse_families()
        self.posterior_model, self.encoder, self.decoder = make_top_down(
            self.image_shape, widths, self.hparams["level_channels"], self.hparams["blocks"]
        )
        self.latent_dim = sum(self.posterior_model.sizes)
        self.code_shape = (self.latent_dim,)

    def decoder_input(self, code: Tensor) -> Tensor:
        return self.posterior_model.state(code)

    def sizes(self, dimensions: int) -> dict[str, Any]:
        return {"level_channels": [1, 1, 1], "blocks": 1}
