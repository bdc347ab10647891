"""Indices of one grid and of several are maps by name, sequences in raster order, and have rates that add up."""

import math

import pytest
import torch

from vaezoo.nn.index_layout import IndexGrid, IndexLayout, one_grid

TWO = IndexLayout({"top": IndexGrid((3,), 1, 2), "bottom": IndexGrid((4, 5), 2, 3)})
OF_TOP = torch.tensor([[[[2, 0]]]])
OF_BOTTOM = torch.tensor([[[[0, 1, 2], [3, 0, 1]], [[4, 3, 2], [1, 0, 4]]]])


def test_all_levels_of_a_position_come_before_the_next_position() -> None:
    maps, layout = torch.arange(12).view(1, 2, 2, 3), one_grid((12, 12), 2, 3)
    sequences = layout.sequences(maps)
    assert sequences.tolist() == [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    assert torch.equal(layout.from_sequences(sequences), maps)
    assert (layout.shape, layout.length) == ((2, 2, 3), 12)


def test_grids_come_one_after_another() -> None:
    indices = TWO.joined(OF_TOP, OF_BOTTOM)
    assert indices.tolist() == [[2, 0, 0, 4, 1, 3, 2, 2, 3, 1, 0, 0, 1, 4]]
    assert (TWO.shape, TWO.length) == ((14,), 14)
    assert torch.equal(TWO.sequences(indices), indices)
    assert torch.equal(TWO.from_sequences(indices), indices)
    top, bottom = TWO.split(indices)
    assert torch.equal(top, OF_TOP)
    assert torch.equal(bottom, OF_BOTTOM)


def test_maps_have_names_and_writing_to_one_changes_the_indices() -> None:
    indices = TWO.joined(OF_TOP, OF_BOTTOM)
    maps = TWO.maps(indices)
    assert {name: found.tolist() for name, found in maps.items()} == {
        "top": OF_TOP[:, 0].tolist(),
        "bottom_1": OF_BOTTOM[:, 0].tolist(),
        "bottom_2": OF_BOTTOM[:, 1].tolist(),
    }
    maps["bottom_2"][:, 1, 2] = 0
    assert indices[0, 13] == 0
    assert one_grid((4,), 2, 2).maps(torch.zeros(1, 1, 2, 2)).keys() == {""}
    assert one_grid((4, 4), 2, 2).maps(torch.zeros(1, 2, 2, 2)).keys() == {"1", "2"}


def test_each_place_of_a_sequence_has_its_codebook() -> None:
    sequence = TWO.joined(OF_TOP, OF_BOTTOM)[0]
    for book, found in zip(TWO.codebooks, TWO.maps(sequence[None]).values(), strict=True):
        assert torch.equal(sequence[book.places], found.flatten())
        assert book.positions == found[0].numel()
    assert TWO.sizes == (3, 4, 5)


def test_usage_counts_the_codes_of_each_image() -> None:
    indices = torch.tensor([[[[0, 2], [2, 2]], [[1, 1], [1, 1]]], [[[1, 1], [0, 3]], [[0, 0], [0, 0]]]])
    layout = one_grid((4, 2), 2, 2)
    usage, counts = layout.usage(indices), layout.counts(indices)
    assert {name: found.tolist() for name, found in usage.items()} == {
        "1": [[1, 0, 3, 0], [1, 2, 0, 1]],
        "2": [[0, 4], [4, 0]],
    }
    assert {name: found.tolist() for name, found in counts.items()} == {"1": [2, 2, 3, 1], "2": [4, 4]}
    of_two = TWO.usage(TWO.joined(OF_TOP, OF_BOTTOM))
    assert {name: found.tolist() for name, found in of_two.items()} == {
        "top": [[1, 0, 1]],
        "bottom_1": [[2, 2, 1, 1]],
        "bottom_2": [[1, 1, 1, 1, 2]],
    }


def test_rates_add_up_over_grids_and_levels() -> None:
    assert TWO.rates() == pytest.approx([2 * math.log(3), 6 * math.log(4), 6 * math.log(5)])
    assert TWO.uniform_rate() == pytest.approx(2 * math.log(3) + 6 * math.log(20))
    assert TWO.bits() == pytest.approx(TWO.uniform_rate() / math.log(2))


def test_independent_indices_cost_their_entropy() -> None:
    maps = torch.tensor([0, 0, 1, 1]).view(2, 1, 1, 2)
    assert one_grid((2,), 1, 2).independent_rate(maps) == pytest.approx(2 * math.log(2))
    assert one_grid((50,), 1, 2).independent_rate(maps) == pytest.approx(2 * math.log(2))
    assert one_grid((50,), 1, 2).independent_rate(torch.zeros(2, 1, 1, 2)) == 0
    layout = IndexLayout({"top": IndexGrid((2,), 1, 2), "bottom": IndexGrid((2,), 1, 1)})
    indices = torch.tensor([[0, 0, 1], [1, 1, 1]])
    assert layout.independent_rate(indices) == pytest.approx(2 * math.log(2))


def test_independent_draws_have_the_frequencies_of_each_codebook_in_its_places() -> None:
    layout = IndexLayout({"top": IndexGrid((3,), 1, 2), "bottom": IndexGrid((4, 2), 2, 2)})
    counts = {"top": torch.tensor([1, 0, 3]), "bottom_1": torch.tensor([0, 5, 5, 0]), "bottom_2": torch.tensor([9, 1])}
    drawn = layout.independent_draws(counts, 5000, torch.Generator().manual_seed(0))
    assert drawn.shape == (5000, layout.length)
    for name, found in layout.counts(drawn).items():
        shares = counts[name] / counts[name].sum()
        torch.testing.assert_close(found / found.sum(), shares, atol=0.02, rtol=0)
    first, second = layout.maps(drawn)["top"].flatten(1).T
    assert abs(float(torch.corrcoef(torch.stack([first, second]).double())[0, 1])) < 0.05
    grid = one_grid((3,), 2, 2).independent_draws({"": counts["top"]}, 6)
    assert grid.shape == (6, 1, 2, 2)
