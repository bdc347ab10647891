"""The hierarchical VAE."""

from collections.abc import Sequence
from typing import Any

from vaezoo.config.validation import sum_of
from vaezoo.models.vae import VAE
from vaezoo.nn.posteriors.hierarchical import Inference, VectorLevels


class HierarchicalVAE(VAE):
    """VAE with several levels of codes, each with a learned prior given those above (Sønderby et al., 2016).

    It minimises recon + sum_l KL_l in nats, with KL_l exact given the drawn levels above, which is logged as ``kl_1``
    (the top), ``kl_2``, ...; with inference bottom_up, all but the top are estimates. A code has the levels side by
    side, top first. The decoder and, by default, the posterior's residual form are not those of the paper but of NVAE
    (Vahdat and Kautz, 2020): images depend on all levels. Moments of single dimensions, their KL and the parts of the
    average KL are n/a.

    Args:
        levels: dimensions of the levels, top first; ``latent_dim`` is their sum.
        inference: ``residual``, ``ladder`` or ``bottom_up`` (see ``vaezoo.nn.posteriors.hierarchical.VectorLevels``).
        level_widths: hidden layers of the networks between levels.

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
        latent_dim: int | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(latent_dim=sum_of(levels, "model.levels", latent_dim), **shared)

    def make_posterior(self, dimensions: int) -> None:
        self._refuse_families()
        chosen = self.hparams
        self.posterior_model = VectorLevels(chosen["levels"], chosen["inference"], chosen["level_widths"])

    def sizes(self, dimensions: int) -> dict[str, Any]:
        return {"levels": [dimensions // 2, dimensions - dimensions // 2]}
