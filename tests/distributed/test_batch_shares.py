"""Shares of a batch: noise of the whole in each process, and means that are over images."""

import pytest
import torch

from vaezoo.data.pixels import draw_binary
from vaezoo.distributed import batch_shares
from vaezoo.distributed.batch_shares import BatchShare, even_share, share_of, within_share
from vaezoo.nn.posteriors import DiagonalGaussian


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("parts", [2, 3])
def test_each_process_draws_its_images_rows_of_the_noise_of_one(total: int, parts: int) -> None:
    mean, logvar = torch.randn(total, 4), torch.randn(total, 4)
    torch.manual_seed(3)
    alone, after = DiagonalGaussian(mean, logvar).sample(), torch.get_rng_state()
    x = torch.rand(total, 1, 8, 8)
    binary = draw_binary(x, seed=5)
    for rank in range(parts):
        own = even_share(total, rank, parts)
        rows = slice(own.start, own.start + max(own.size, 1))
        torch.manual_seed(3)
        with within_share(own):
            code = DiagonalGaussian(mean[rows], logvar[rows]).sample()
        assert torch.equal(code, alone[rows])
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.equal(draw_binary(x[rows], 5, own), binary[rows])


def test_a_generator_of_ones_own_draws_for_what_is_at_hand() -> None:
    posterior = DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    plain = posterior.sample(torch.Generator().manual_seed(1))
    with within_share(even_share(5, 1, 2)):
        assert torch.equal(posterior.sample(torch.Generator().manual_seed(1)), plain)
    assert batch_shares._current is None


@pytest.mark.parametrize("total", [1, 3, 8])
def test_weighed_means_of_shares_average_to_the_mean_over_images(total: int) -> None:
    losses = torch.rand(total)
    parts = [even_share(total, rank, 3) for rank in range(3)]
    weighed = [own.weight * own.rows(losses, max(own.size, 1)).mean() for own in parts]
    torch.testing.assert_close(torch.stack(weighed).mean(), losses.mean())
    counted = [own.counted({"loss": own.rows(losses, max(own.size, 1))})["loss"] for own in parts]
    assert torch.equal(torch.cat(counted), losses)


def test_batches_of_a_loader_that_says_nothing_are_equal_shares() -> None:
    batch = (torch.zeros(4, 1), torch.zeros(4))
    assert share_of(batch, rank=1, world_size=3) == BatchShare(start=4, size=4, total=12, world_size=3)
    assert share_of(batch, rank=0, world_size=1) is None
    assert batch_shares.images_in(batch, world_size=3) == 12
    assert batch_shares.images_in((*batch, BatchShare(0, 4, 11, 3)), world_size=3) == 11
