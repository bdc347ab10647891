"""Usage of codebooks: 1 to K codes, over all images at once."""

import math

import pytest
import torch

from vaezoo.metrics.codebooks import codes_used, perplexity


def test_uniform_usage_of_k_codes_has_perplexity_k() -> None:
    assert perplexity(torch.full((16,), 7)).item() == pytest.approx(16, abs=1e-9)
    assert codes_used(torch.full((16,), 7)) == 1


def test_one_code_has_perplexity_one() -> None:
    assert perplexity(torch.tensor([0, 9, 0, 0])) == 1
    assert codes_used(torch.tensor([0, 9, 0, 0])) == 0.25


def test_perplexity_of_added_counts_is_not_the_mean_of_those_of_batches() -> None:
    """Shares 1/2, 1/4, 1/4 have an entropy of 3/2 ln 2."""
    first, second = torch.tensor([8, 0, 0, 0]), torch.tensor([0, 4, 4, 0])
    assert perplexity(first + second).item() == pytest.approx(2**1.5, abs=1e-9)
    assert (perplexity(first) + perplexity(second)) / 2 == 1.5


def test_without_counts_there_is_no_perplexity() -> None:
    assert math.isnan(perplexity(torch.zeros(3)))
    assert codes_used(torch.zeros(3)) == 0
