"""The quantiser whose codes are a learned linear map of constant ones."""

import math

import torch
from torch import Tensor, nn

from vaezoo.nn.quantizers import codebooks
from vaezoo.nn.quantizers.base import codebook_channels
from vaezoo.nn.quantizers.vector import Estimator, NearestCode, check_size

NOISE = 1e-2
"""Standard deviation of the noise in the initial map, besides the identity."""


class LinearCodebookQuantizer(NearestCode):
    """The nearest of ``size`` codes C W^T, with constant C ~ N(0, 1 / c) and a learned W (Zhu et al., 2024, SimVQ).

    W follows the gradient of the penalty ``codebook``, so that all codes move whenever one is used. The other penalty
    is the commitment of ``vq``. ConfigError for codes that do not fit into memory.
    """

    constant: Tensor

    def __init__(
        self, channels: int | None = None, *, size: int = 512, estimator: Estimator = "straight_through"
    ) -> None:
        super().__init__()
        self.channels = channels = codebook_channels(channels)
        check_size(size, channels)
        self.sizes, self.weights = (size,), {"codebook": 1.0}
        self.estimator = codebooks.ESTIMATORS[estimator]
        self.register_buffer("constant", torch.randn(size, channels) / math.sqrt(channels))
        self.map = nn.Parameter(torch.eye(channels) + NOISE * torch.randn(channels, channels))

    def current_codes(self) -> Tensor:
        with torch.autocast(self.map.device.type, enabled=False):
            return self.constant @ self.map.T
