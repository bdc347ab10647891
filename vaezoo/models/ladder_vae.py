"""The ladder VAE."""

from typing import Any

from vaezoo.models.hierarchical_vae import HierarchicalVAE
from vaezoo.nn.posteriors.hierarchical import Inference


class LadderVAE(HierarchicalVAE):
    """Hierarchical VAE whose posterior combines the encoder's Gaussian with the prior (Sønderby et al., 2016)."""

    def __init__(self, *, inference: Inference = "ladder", **shared: Any) -> None:
        super().__init__(inference=inference, **shared)
