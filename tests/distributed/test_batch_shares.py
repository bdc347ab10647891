"""Shares of a batch: noise of the whole in each process, and means that are over images."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.distributed import shared_steps
from vaezoo.config.choices import POSTERIORS
from vaezoo.data.pixels import draw_binary
from vaezoo.distributed import batch_shares
from vaezoo.distributed.batch_shares import BatchShare, even_share, share_of, within_share
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("parts", [2, 3])
def test_each_process_draws_its_images_rows_of_the_noise_of_one(total: int, parts: int) -> None:
    mean, logvar = torch.randn(total, 4), torch.randn(total, 4)
    torch.manual_seed(3)
    alone, after = DiagonalGaussian(mean, logvar).draw().code[0], torch.get_rng_state()
    x = torch.rand(total, 1, 8, 8)
    binary = draw_binary(x, seed=5)
    for rank in range(parts):
        own = even_share(total, rank, parts)
        rows = slice(own.start, own.start + max(own.size, 1))
        torch.manual_seed(3)
        with within_share(own):
            code = DiagonalGaussian(mean[rows], logvar[rows]).draw().code[0]
        assert torch.equal(code, alone[rows])
        assert torch.equal(torch.get_rng_state(), after)
        assert torch.equal(draw_binary(x[rows], 5, own), binary[rows])


@pytest.mark.parametrize("name", POSTERIORS)
def test_each_process_draws_its_images_codes_of_any_family(name: str) -> None:
    family = make_posterior_model(name, 3)
    features = torch.randn(5, family.features(3))
    torch.manual_seed(3)
    alone, after = family(features).draw(2), torch.get_rng_state()
    for rank in range(2):
        own = even_share(5, rank, 2)
        rows = slice(own.start, own.start + own.size)
        torch.manual_seed(3)
        with within_share(own):
            draw = family(features[rows]).draw(2)
        torch.testing.assert_close(draw.code, alone.code[:, rows])
        torch.testing.assert_close(draw.log_prob, alone.log_prob[:, rows])
        assert torch.equal(torch.get_rng_state(), after)


def test_a_generator_of_ones_own_draws_for_what_is_at_hand() -> None:
    posterior = DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    plain = posterior.draw(2, torch.Generator().manual_seed(1)).code
    with within_share(even_share(5, 1, 2)):
        assert torch.equal(posterior.draw(2, torch.Generator().manual_seed(1)).code, plain)
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


# statistics of the whole batch ---------------------------------------------------------------------------------------


def test_without_shares_a_whole_batch_is_what_is_at_hand() -> None:
    values = torch.randn(3, 2)
    assert batch_shares.whole_batch(values) is values
    assert batch_shares.own_rows(values, 3) is values
    assert batch_shares.statistic(values.sum()).item() == values.sum().item()


@pytest.mark.parametrize("total", [1, 3, 8])
def test_own_rows_are_those_of_a_share_or_of_its_stand_in(total: int) -> None:
    values = torch.arange(total)
    for rank in range(3):
        share = even_share(total, rank, 3)
        with within_share(share):
            found = batch_shares.own_rows(values, max(share.size, 1))
        assert found.tolist() == list(range(share.start, share.start + max(share.size, 1)))


@pytest.mark.parametrize("total", [1, 3, 8])
def test_the_gradients_of_a_statistic_add_up_to_its_own_after_weighting_and_averaging(total: int) -> None:
    """A function that is no mean over images: the square of the sum of the whole batch."""
    values = torch.rand(total, dtype=torch.double)
    averaged = torch.zeros(total, dtype=torch.double)
    for rank in range(3):
        share = even_share(total, rank, 3)
        rows = values.clone().requires_grad_()
        constant = values.clone()
        with within_share(share):
            mine = rows[share.start : share.start + share.size]
            everything = torch.cat([constant[: share.start], mine, constant[share.start + share.size :]])
            statistic = batch_shares.statistic(everything.sum().square())
        assert statistic.item() == pytest.approx(values.sum().square().item())
        (statistic * share.weight).backward()
        assert rows.grad is not None
        averaged += rows.grad / 3
    torch.testing.assert_close(averaged, 2 * values.sum().expand(total))


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The results of ``shared_steps`` of each of two or three processes."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.distributed.shared_steps", str(folder)]
    started = [
        subprocess.Popen([*command, str(rank), str(request.param)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(request.param)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert not any(process.returncode for process in started), "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("total", shared_steps.TOTALS)
@pytest.mark.parametrize("name", [*shared_steps.NAMES, "sparse"])
def test_penalties_of_shares_have_the_values_and_gradients_of_one_process(
    name: str, total: int, ranks: list[Any]
) -> None:
    alone = shared_steps.sparse_step(total, None) if name == "sparse" else shared_steps.step(name, total, None)
    parts = [part[name, total] for part in ranks]
    for value in alone.keys() & {"penalty", "critic"}:
        torch.testing.assert_close(torch.cat([part.pop(value) for part in parts]), alone.pop(value))
    for part in parts:
        assert torch.equal(part.pop("state"), alone["state"])
        assert part.keys() == alone.keys() - {"state"}
        for gradient, found in part.items():
            torch.testing.assert_close(
                found, alone[gradient], msg=lambda text, gradient=gradient: f"{gradient}: {text}"
            )
