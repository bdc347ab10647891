"""Random draws on a page: from a model's prior, or else from what was fitted to its codes or indices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaezoo.explorer.images import Images
from vaezoo.metrics.mixtures import fit_mixture, no_mixture
from vaezoo.models import Autoencoder

DRAWS, SEED = 64, 0
"""Number of stored draws, and their seed."""


@dataclass(frozen=True)
class Draws:
    """Draws from ``source``: normal with ``mean`` and ``std`` (D,), or else stored, (K, D) or indices (K, T)."""

    source: str
    mean: Tensor | None = None
    std: Tensor | None = None
    stored: Tensor | None = None


def codes_drawn(model: Autoencoder, codes: Tensor) -> Draws | None:
    """Draws of the model's prior, or else of a mixture fitted to its codes; None if there is neither."""
    generator = torch.Generator().manual_seed(SEED)
    prior = model.prior()
    if prior is not None:
        moments = prior.moments()
        if moments is None or model.one_hots:
            return Draws("its prior", stored=prior.sample(DRAWS, generator))
        mean, std = moments[0], moments[1].sqrt()
        standard = not mean.any() and bool((std == 1).all())
        return Draws("its prior N(0, I)" if standard else "its prior", mean, std)
    if no_mixture(codes):
        return None
    mixture = model.mixture or fit_mixture(codes)
    return Draws("a mixture fitted to its codes, as it has no prior", stored=mixture.sample(DRAWS, generator))


def indices_drawn(model: Autoencoder, images: Images) -> Draws:
    """Indices of a prior that was fitted to them, of the model's own, or independent ones of training images."""
    layout, generator = model.index_layout, torch.Generator().manual_seed(SEED)
    assert layout is not None
    prior = model.prior()
    if model.index_prior is not None:
        source, indices = "a prior fitted to its indices", model.index_prior.sample(DRAWS, generator)
    elif prior is not None:
        source, indices = "its prior", model.indices_of(prior.sample(DRAWS, generator))
    else:
        source = "training images, independently at each position, as it has no prior"
        found = model.indices(images.measured[: images.count])
        assert found is not None
        real = layout.sequences(found)
        rows = torch.randint(len(real), (DRAWS, layout.length), generator=generator)
        return Draws(source, stored=real.gather(0, rows).int())
    return Draws(source, stored=layout.sequences(indices).int())
