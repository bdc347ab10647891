"""What models are sampled from: their own prior, and priors that are fitted to their codes after training."""

import torch
from torch import Tensor

from vaezoo.config.errors import ImageError
from vaezoo.metrics.mixtures import Mixture, fit_mixture, no_mixture
from vaezoo.nn.image_api import MIXTURE, ImageAPI
from vaezoo.nn.index_layout import IndexLayout
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.priors.indices import IndexPrior
from vaezoo.training.model_interface import ModelInterface


class Sampling(ImageAPI, ModelInterface):
    """The priors of an autoencoder, and the indices of discrete codes. Fitted priors are not part of its weights."""

    mixture: Mixture | None = None
    """A mixture of Gaussians that was fitted to training codes after training."""

    index_prior: IndexPrior | None = None
    """A prior over indices that was fitted to those of training images after training (``vaezoo prior``)."""

    index_layout: IndexLayout | None = None
    """The grids and codebooks of a discrete code, whose rate is from uniform indices; None for a continuous code."""

    @property
    def index_shape(self) -> tuple[int, ...] | None:
        """Levels, height and width of the indices of a discrete code, or (T,) if they are on several grids, one after
        another (see ``IndexLayout.maps``); None for a continuous code."""
        return None if self.index_layout is None else self.index_layout.shape

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each codebook of a discrete code."""
        return () if self.index_layout is None else self.index_layout.sizes

    def indices(self, x: Tensor) -> Tensor | None:
        """Indices of discrete codes, (B, C, H, W) -> (B, *index_shape), int64; None for continuous codes."""
        return None

    def draw_indices(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Indices of codes drawn from the posterior, or those of ``indices`` without one: (B, C, H, W) -> the same."""
        return self.indices(x)

    def indices_of(self, code: Tensor) -> Tensor:
        """The indices of the discrete codes nearest to any points: (B, D) -> (B, *index_shape), int64."""
        raise NotImplementedError(f"the codes of {type(self).__name__} are not discrete")

    def codes_at(self, indices: Tensor) -> Tensor:
        """The codes that indices stand for: (B, *index_shape) -> (B, D)."""
        raise NotImplementedError(f"the codes of {type(self).__name__} are not discrete")

    def prior(self) -> Prior | None:
        """p(z), evaluated once for a step or an evaluation; None if the model has no prior."""
        return None

    def log_prior(self, code: Tensor) -> Tensor | None:
        """log p(z) in nats, (B, D) -> (B,); None if the model has no prior."""
        prior = self.prior()
        return None if prior is None else prior.log_prob(code)

    @torch.no_grad()
    def sample(
        self, count: int, generator: torch.Generator | None = None, *, prior: str | None = None
    ) -> Tensor | None:
        """Images decoded from draws of a prior, without gradients: (count, C, H, W).

        ``prior`` is None for ``index_prior`` if one was fitted, or else the model's own, and the result is None without
        either; ``mixture`` stands for that fitted to training codes (see ``fit_prior``), which needs a generator on the
        CPU, if any. ImageError if none was fitted.
        """
        if prior == MIXTURE:
            return self.decode(self.project(self._mixture().sample(count, generator).to(self.device)))
        if self.index_prior is not None:
            return self.decode(self.codes_at(self.index_prior.to(self.device).sample(count, generator)))
        own = self.prior()
        return None if own is None else self.decode(own.sample(count, generator))

    def project(self, code: Tensor) -> Tensor:
        """The nearest codes that the encoder can give, such as those of a codebook: (B, D) -> (B, D)."""
        return code

    def fit_prior(self, codes: Tensor, *, components: int = 10, seed: int = 0) -> Mixture:
        """Fit a mixture of Gaussians to training codes (N, D), as ``encode`` gives them, and keep it in ``mixture``.

        Codes of many dimensions are projected on their principal axes, and ImageError for even more (see
        ``vaezoo.metrics.mixtures``).
        """
        if reason := no_mixture(codes):
            raise ImageError(f"fit_prior cannot be used here: {reason}; choose a smaller model.latent_dim")
        self.mixture = fit_mixture(codes, components=components, seed=seed)
        return self.mixture

    def _mixture(self) -> Mixture:
        if self.mixture is not None:
            return self.mixture
        if reason := no_mixture(torch.empty(0, self.latent_dim)):
            raise ImageError(f"sample has no mixture of this model: {reason}")
        raise ImageError(
            "sample has no mixture, because none was fitted to the codes of this model; load the run folder after"
            " vaezoo evaluate or vaezoo prior, or call model.fit_prior(codes) with codes of training images"
        )
