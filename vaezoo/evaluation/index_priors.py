"""The rate of indices under a prior that was fitted to them, and the ELBO with it."""

from typing import Any

import torch
from torch import Tensor

from vaezoo.evaluation.inputs import Inputs

CONTINUOUS = "the codes are not discrete"
NOT_FITTED = "no prior over the indices was fitted; to fit one: vaezoo prior RUN_DIR"


def lacking(subject: Any) -> str:
    """Why a model has no rate under a fitted prior, or an empty string."""
    if subject.index_shape is None:
        return CONTINUOUS
    return NOT_FITTED if subject.index_prior is None else ""


def describe(subject: Any) -> str:
    """The fitted prior as text, for the record of the numbers that depend on it."""
    return f"transformer over indices, {subject.index_prior.parameters:,} parameters, fitted after training"


@torch.no_grad()
def rates(subject: Any, inputs: Inputs) -> Tensor:
    """-log p(i) of the test images' indices under the fitted prior, in nats: (N,), float64.

    Of a model with a posterior, for one draw of the indices of each image.
    """
    prior = subject.index_prior.to(inputs.device)
    generator = torch.Generator(inputs.device).manual_seed(inputs.settings.seed)
    return inputs.map(lambda x: -prior.log_prob(subject.draw_indices(x, generator)), inputs.test)


def with_prior(subject: Any, elbo: Tensor, rate: Tensor) -> Tensor:
    """The ELBO of each image with the fitted prior in place of uniform ones, in nats: (N,) twice -> (N,).

    KL(q || p) = KL(q || uniform) - log(number of index maps) - E_q[log p(i)], of which the last is ``rate``.
    """
    return elbo + subject.index_layout.uniform_rate() - rate
