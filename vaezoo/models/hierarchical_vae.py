"""The hierarchical VAE."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vaezoo.config.validation import one_of, sum_of
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.nn.posteriors.hierarchical import Inference, VectorLevels


class HierarchicalVAE(BetaVAE):
    """VAE with several levels of codes, each with a learned prior given those above (Sønderby et al., 2016).

    It minimises recon + beta sum_l KL_l in nats, with beta rising from 0 to 1 at first, without which levels are given
    up. KL_l is exact given the drawn levels above, and logged as ``kl_1`` (the top), ``kl_2``, ...; with inference
    bottom_up, all but the top are estimates. A code has the levels side by side, top first. By default, posteriors are
    relative to priors and images depend on all levels, as in NVAE (Vahdat and Kautz, 2020). Moments of single
    dimensions, their KL and the parts of the average KL are n/a.

    Args:
        levels: dimensions of the levels, top first; ``latent_dim`` is their sum.
        inference: ``residual``, ``ladder`` or ``bottom_up`` (see ``vaezoo.nn.posteriors.hierarchical.VectorLevels``).
        level_widths: hidden layers of the networks between levels.
        decoder_sees: ``all`` levels, or the ``lowest`` alone, as in the ladder VAE and the two-layer IWAE.

    Raises:
        ConfigError: an argument is out of range, or a posterior, prior or bound that is not for hierarchies.
    """

    posterior_model: VectorLevels

    def __init__(
        self,
        *,
        levels: Sequence[int] = (8, 32),
        inference: Inference = "residual",
        level_widths: Sequence[int] = (128,),
        decoder_sees: str = "all",
        latent_dim: int | None = None,
        beta: float = 1.0,
        beta_schedule: str = "linear",
        schedule_steps: int = 2_000,
        **shared: Any,
    ) -> None:
        one_of(decoder_sees, ("all", "lowest"), "model.decoder_sees")
        warm_up: dict[str, Any] = {"beta": beta, "beta_schedule": beta_schedule, "schedule_steps": schedule_steps}
        super().__init__(latent_dim=sum_of(levels, "model.levels", latent_dim), **warm_up, **shared)

    def make_posterior(self, dimensions: int) -> None:
        self._refuse_families()
        chosen = self.hparams
        levels = chosen["levels"], chosen["inference"], chosen["level_widths"]
        self.posterior_model = VectorLevels(*levels, self.activation)

    def count_seen(self, dimensions: int) -> int:
        return dimensions if self.hparams["decoder_sees"] == "all" else int(self.posterior_model.sizes[-1])

    def decoder_input(self, code: Tensor) -> Tensor:
        return code[..., -self.count_seen(code.shape[-1]) :]

    def sizes(self, dimensions: int) -> dict[str, Any]:
        return {"levels": [dimensions // 2, dimensions - dimensions // 2]}
