"""Metrics equal their definitions, and means over images do not depend on batches."""

import math

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from vaezoo import metrics
from vaezoo.training.running_means import RunningMeans


def test_psnr_is_torchmetrics_per_image() -> None:
    x, y = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    expected = peak_signal_noise_ratio(y, x, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(metrics.psnr(metrics.mse(x, y)), expected)


def test_a_perfect_image_has_a_finite_psnr() -> None:
    assert metrics.psnr(torch.zeros(1)).item() == 100


def test_active_units_are_those_above_burdas_threshold() -> None:
    assert metrics.active_units(torch.tensor([0.5, 0.011, 0.01, 0.0])) == 2


def test_one_bit_for_each_pixel_is_d_ln_2_nats() -> None:
    assert metrics.bits_per_dim(torch.tensor(784 * math.log(2)), 784).item() == 1


def test_a_short_last_batch_weighs_as_many_images_as_it_has() -> None:
    values = torch.randn(10, 3)
    sums = RunningMeans()
    for part in values.split(4):
        sums.add({"a": part, "b": part[:, 0]})
    torch.testing.assert_close(sums.means()["a"], values.double().mean(0))
    torch.testing.assert_close(sums.means()["b"], values[:, 0].double().mean())


def test_uneven_shards_add_up_to_one_device() -> None:
    values = torch.randn(10)
    one, other = RunningMeans(), RunningMeans()
    one.add({"a": values[:7]})
    other.add({"a": values[7:]})
    sent: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sent.append(tensor)
        return tensor

    other.means(keep)
    torch.testing.assert_close(one.means(lambda mine: mine + sent[0])["a"], values.double().mean())
    assert len(sent) == 1


def test_a_value_that_only_some_batches_have_is_kept_beside_the_others() -> None:
    sums = RunningMeans()
    sums.add({"a": torch.ones(2), "b": torch.ones(2, 3)})
    sums.add({"a": torch.zeros(2)})
    assert sums.means()["a"] == 0.5
    assert sums.means()["b"].tolist() == [0.5, 0.5, 0.5]


def test_sums_lose_no_digits_that_single_precision_would() -> None:
    sums = RunningMeans()
    for value in (2.0**24, 1.0, 1.0, 1.0):
        sums.add({"a": torch.tensor([value])})
    assert sums.totals["a"].item() == 2**24 + 3


def test_sums_hold_no_graph() -> None:
    sums = RunningMeans()
    sums.add({"a": torch.ones(2, requires_grad=True) * 2})
    assert not sums.totals["a"].requires_grad


def test_sums_go_on_from_their_state() -> None:
    sums, copy = RunningMeans(), RunningMeans()
    sums.add({"a": torch.ones(3)})
    copy.load_state_dict(sums.state_dict(), torch.device("cpu"))
    copy.add({"a": torch.zeros(1)})
    assert copy.means()["a"] == 0.75
    sums.reset()
    assert sums.means() == {}
