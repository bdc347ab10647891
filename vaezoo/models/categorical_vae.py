"""The categorical VAE."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.validation import sum_of
from vaezoo.models.relaxed import RelaxedVAE
from vaezoo.nn.index_layout import one_grid


class CategoricalVAE(RelaxedVAE):
    """VAE with ``groups`` of ``categories`` each, by the Gumbel-softmax (Jang et al., 2017; Maddison et al., 2017).

    It minimises recon + kl in nats, with kl = sum_g KL(q(z_g|x) || uniform). ``encode`` gives the most probable
    one-hot codes. The parts of the average KL, and the KL of single dimensions, are n/a.
    """

    def __init__(self, *, groups: int = 20, categories: int = 10, latent_dim: int | None = None, **shared: Any) -> None:
        size = sum_of([categories] * groups, "model.groups times model.categories", latent_dim)
        super().__init__(latent_dim=size, **shared)
        self.index_layout = one_grid((categories,) * groups, 1, 1)

    def groups(self) -> tuple[list[int], int]:
        return [self.hparams["categories"]] * self.hparams["groups"], 0

    def sizes(self, dimensions: int) -> dict[str, Any]:
        return {"groups": dimensions, "categories": 2}

    def indices(self, x: Tensor) -> Tensor:
        return self.indices_of(self.encode(x))

    def draw_indices(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.indices_of(self.posterior(x).draw(1, generator).first)

    def indices_of(self, code: Tensor) -> Tensor:
        return code.unflatten(1, (len(self.codebook_sizes), -1)).argmax(-1)[..., None, None]

    def codes_at(self, indices: Tensor) -> Tensor:
        return F.one_hot(indices.flatten(1), self.codebook_sizes[0]).flatten(1).to(self.dtype)
