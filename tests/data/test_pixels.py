"""Pixels: from uint8 to [0, 1], binarised, unpacked and resized."""

import numpy as np
import torch

from vaezoo.data.pixels import as_float, binarize_once, draw_binary, fit, unpack_bits


def test_floats_reach_from_0_to_1() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = as_float(levels, (1, 16, 16))
    assert x.dtype == torch.float32
    assert torch.equal(x.flatten(), torch.arange(256).float() / 255)


def test_packed_bits_come_back_as_they_were() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (5, 100), np.uint8)
    packed = torch.from_numpy(np.packbits(bits, axis=1))
    assert torch.equal(unpack_bits(packed, 100), torch.from_numpy(bits))
    assert torch.equal(as_float(packed, (1, 10, 10)), torch.from_numpy(bits).view(5, 1, 10, 10).float())


def test_threshold_is_one_half() -> None:
    levels = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2)  # 127/255 < 1/2 < 128/255
    assert binarize_once(levels, np.array([0]), "threshold").flatten().tolist() == [0, 0, 255, 255]


def test_fixed_draws_have_the_pixel_as_their_mean() -> None:
    levels = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 1, 2, 2).repeat(1, 1, 100, 100)
    drawn = as_float(binarize_once(levels.expand(4, -1, -1, -1), np.arange(4), "dynamic"), (1, 200, 200))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    for row, column, mean in ((0, 0, 0.0), (0, 1, 0.2), (1, 0, 0.8), (1, 1, 1.0)):
        # Standard deviation of a mean of 40,000 draws: 0.002.
        assert abs(drawn[:, :, row::2, column::2].mean().item() - mean) < (0.01 if 0 < mean < 1 else 1e-9)


def test_fixed_draw_depends_on_the_position_alone() -> None:
    images = torch.full((6, 1, 8, 8), 128, dtype=torch.uint8)
    together = binarize_once(images, np.arange(6), "dynamic")
    apart = binarize_once(images[4:], np.arange(4, 6), "dynamic")
    assert torch.equal(together[4:], apart)
    assert not torch.equal(together[0], together[1])
    assert torch.equal(binarize_once(together, np.arange(6), "dynamic"), together)


def test_drawn_batches_are_repeatable_and_touch_no_global_state() -> None:
    x = torch.full((50, 1, 20, 20), 0.3)
    before = torch.get_rng_state()
    first, again, other = draw_binary(x, 1), draw_binary(x, 1), draw_binary(x, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(first.mean().item() - 0.3) < 0.02  # standard deviation 0.003
    assert torch.equal(draw_binary(torch.tensor([0.0, 1.0]), 3), torch.tensor([0.0, 1.0]))


def test_images_of_the_right_shape_are_not_touched() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert fit(images, (3, 8, 8)) is images


def test_the_longer_side_is_cut_equally() -> None:
    stripes = torch.tensor([10, 20, 30, 40], dtype=torch.uint8).repeat_interleave(8).expand(1, 1, 16, 32)
    assert fit(stripes, (1, 16, 16)).unique().tolist() == [20, 30]
    assert fit(stripes, (1, 8, 8)).shape == (1, 1, 8, 8)
    assert fit(stripes, (1, 24, 40)).shape == (1, 1, 24, 40)


def test_resizing_keeps_flat_areas_flat() -> None:
    assert fit(torch.full((1, 1, 8, 8), 77, dtype=torch.uint8), (1, 24, 40)).unique().tolist() == [77]


def test_grey_and_colours_change_into_each_other() -> None:
    grey = torch.full((2, 1, 8, 8), 90, dtype=torch.uint8)
    assert fit(fit(grey, (3, 8, 8)), (1, 8, 8)).unique().tolist() == [90]
    green = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    green[:, 1] = 255
    assert fit(green, (1, 8, 8)).unique().tolist() == [150]  # 0.587 * 255 = 149.7
