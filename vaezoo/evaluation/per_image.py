"""What a trained model says of each image: its code and posterior, and the terms of its bound."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.data.named_images import NamedImages
from vaezoo.metrics import bounds

BATCH = 4 * bounds.NOISE_BLOCK
"""Images per forward pass, a multiple of the images that share a generator."""

NO_POSTERIOR = "the model maps an image to a point, not to a distribution"
DEPENDENT = "the posterior is not one of independent Gaussian dimensions"


def encode(model: Any, images: NamedImages, *, seed: int = 0, size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches of rows for images in order: what identifies each, and what ``describe_images`` says of it."""
    for batch in images.batches(size):
        found = describe_images(model, batch.x, batch.labels, seed=seed, start=batch.start)
        yield images.columns(batch) | {name: values.numpy() for name, values in found.items()}


@torch.no_grad()
def describe_images(model: Any, x: Tensor, labels: Tensor, *, seed: int = 0, start: int = 0) -> dict[str, Tensor]:
    """The code of each image and the terms of its bound in nats, on the CPU, as in ``evaluation.json``.

    ``code`` (B, D), ``logvar`` (B, D) of its posterior, ``indices`` (B, *index_shape) of a discrete code, ``recon``
    (B,), ``kl`` (B,) and ``elbo`` (B,), of a conditional model ``elbo_given_label``; without those that the model does
    not have (see ``missing_columns``). ``recon`` is of one draw of the code, which is the same for every batch size.

    Args:
        model: in evaluation mode.
        x: images (B, C, H, W).
        labels: of the images, (B,), which only a conditional model uses.
        start: position of the first image in a larger set, a multiple of ``NOISE_BLOCK``.
    """
    x = x.to(model.device)
    seen = model.given(labels)
    posterior = seen.posterior(x)
    moments = None if posterior is None else posterior.moments()
    found = {"code": seen.encode(x) if posterior is None else posterior.mean}
    found |= {} if moments is None else {"logvar": moments[1]}
    found |= {} if model.index_layout is None else {"indices": seen.indices(x)}
    found |= bound_terms(model, x, labels, seed=seed, start=start)
    return {name: values.cpu() for name, values in found.items()}


def bound_terms(model: Any, x: Tensor, labels: Tensor, *, seed: int, start: int) -> dict[str, Tensor]:
    """``recon``, and ``kl`` and ``elbo`` if codes have a rate, (B,) each in nats; arguments as above."""
    known = labels if model.is_conditional else None
    recon, kl = bounds.elbo_terms(model, x, labels=known, seed=seed, start=start)
    if not kl.shape[1]:
        return {"recon": recon}
    return {"recon": recon, "kl": kl.sum(1), elbo_name(model): -recon - kl.sum(1)}


def elbo_name(model: Any) -> str:
    """The name of a model's ELBO: a conditional one's is a bound on another quantity, log p(x|y)."""
    return "elbo_given_label" if model.is_conditional else "elbo"


def missing_columns(model: Any, found: Collection[str]) -> dict[str, str]:
    """Why a model does not have some of what ``describe_images`` gives of others, by name."""
    absent = [name for name in ("logvar", "kl", elbo_name(model)) if name not in found]
    if "kl" not in found or model.index_layout is not None:
        return dict.fromkeys(absent, NO_POSTERIOR if "kl" not in found else "the codes are discrete")
    return dict.fromkeys(absent, DEPENDENT)
