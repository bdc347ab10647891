"""Pictures show the pixels that they were given, where they say, and nothing is cut off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vaezoo import figures
from vaezoo.figures import Labels, Plane, Prior, canvas, mosaics, planes
from vaezoo.figures.planes import Limits

SIZES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 33, 20), (1, 9, 64), (3, 200, 120)]


def images(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, channels, height, width)


def rgb(image: torch.Tensor) -> np.ndarray:
    """An image (C, H, W) as its tile should be."""
    return mosaics.shown(image[None])[0]


# mosaics -------------------------------------------------------------------------------------------------------------


def test_a_constant_grey_stays_what_it_is_beside_darker_and_brighter_images() -> None:
    grey, black, white = (torch.full((1, 28, 28), value) for value in (0.5, 0.0, 1.0))
    mosaic = mosaics.compose([[grey, black], [white, grey]])
    assert (mosaic.tile(0, 0) == 0.5).all()
    assert (mosaic.tile(1, 1) == 0.5).all()
    assert (mosaics.compose([[grey]]).tile(0, 0) == 0.5).all()


@pytest.mark.parametrize("shape", SIZES)
def test_a_tile_shows_every_pixel_of_a_small_image_or_the_means_of_a_large_one(shape: tuple[int, int, int]) -> None:
    image = images(1, *shape)[0]
    tile = mosaics.compose([[image]]).tile(0, 0)
    assert max(tile.shape[:2]) >= 56
    assert np.allclose(tile.mean((0, 1)), image.mean((1, 2)).expand(3), atol=2e-3)
    if max(shape) <= 160:
        zoom = tile.shape[0] // shape[1]
        assert tile.shape[:2] == (zoom * shape[1], zoom * shape[2])
        assert np.allclose(tile[::zoom, ::zoom], image.permute(1, 2, 0).expand(-1, -1, 3))
    else:
        assert max(tile.shape[:2]) == 160


def test_one_channel_is_grey_and_three_keep_their_colours() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)
    assert (rgb(red) == [1, 0, 0]).all()
    grey = rgb(torch.rand(1, 8, 8))
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()


def test_reconstructions_stand_below_their_originals_and_the_error_is_the_absolute_difference() -> None:
    x, recon = images(4, 3, 28, 28), images(4, 3, 28, 28)
    mosaic = mosaics.reconstruction_mosaic(x, recon)
    for column in range(4):
        assert np.array_equal(mosaic.tile(0, column), rgb(x[column]))
        assert np.array_equal(mosaic.tile(1, column), rgb(recon[column]))
        assert np.allclose(mosaic.tile(2, column), np.abs(rgb(x[column]) - rgb(recon[column])))


def test_small_errors_look_small() -> None:
    x = torch.full((2, 1, 28, 28), 0.5)
    assert np.allclose(mosaics.reconstruction_mosaic(x, x + 0.01).tile(2, 0), 0.01, atol=1e-6)


def test_the_real_images_stand_at_both_ends_of_each_strip_in_a_frame_that_covers_none_of_their_pixels() -> None:
    start, end = images(2, 1, 28, 28), images(2, 1, 28, 28)
    strips = {"linear": torch.rand(2, 5, 1, 28, 28), "spherical": torch.rand(2, 5, 1, 28, 28)}
    mosaic = mosaics.interpolation_mosaic(start, end, strips)
    for row, (pair, method) in enumerate([(0, "linear"), (0, "spherical"), (1, "linear"), (1, "spherical")]):
        assert np.array_equal(mosaic.tile(row, 0), rgb(start[pair]))
        assert np.array_equal(mosaic.tile(row, 6), rgb(end[pair]))
        for step in range(5):
            assert np.array_equal(mosaic.tile(row, 1 + step), rgb(strips[method][pair, step]))
        for column, is_framed in ((0, True), (1, False), (5, False), (6, True)):
            corner = mosaic.pixels[mosaic.tops[row] - 1, mosaic.lefts[column] - 1]
            assert np.allclose(corner, mosaics.REAL if is_framed else mosaics.PAGE)


def test_a_short_last_row_of_samples_leaves_the_page_white() -> None:
    mosaic = mosaics.sample_mosaic(torch.zeros(5, 1, 28, 28), columns=3)
    assert (mosaic.tile(1, 1) == 0).all()
    assert (mosaic.tile(1, 2) == mosaics.PAGE).all()


# planes --------------------------------------------------------------------------------------------------------------


def test_grid_codes_are_read_like_a_picture_with_the_second_axis_upwards() -> None:
    codes = planes.grid_codes(Limits(-2, 2, 0, 3), columns=4, rows=3)
    assert codes[0].tolist() == [-1.5, 2.5]
    assert codes[3].tolist() == [1.5, 2.5]
    assert codes[-1].tolist() == [1.5, 0.5]


def test_seamless_puts_the_first_tile_at_the_upper_left_and_fills_rows_first() -> None:
    tiles = np.arange(6)[:, None, None, None] * np.ones((6, 2, 5, 3))
    array = planes.seamless(tiles, columns=3)
    assert array.shape == (4, 15, 3)
    assert array[::2, ::5, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_limits_are_square_hold_all_points_and_the_bulk_of_the_prior() -> None:
    where = planes.limits(torch.tensor([[0.0, 0.0], [10.0, 1.0]]), prior_centre=torch.zeros(2))
    assert where.right - where.left == pytest.approx(where.top - where.bottom)
    assert where.left <= -3
    assert where.bottom <= -3
    assert where.right >= 10
    assert where.top >= 3


def test_limits_of_identical_points_are_not_empty() -> None:
    where = planes.limits(torch.ones(5, 2))
    assert where.left < 1 < where.right


def test_principal_axes_find_the_directions_of_most_variance_and_their_shares() -> None:
    noise = torch.randn(4000, 3, dtype=torch.float64) * torch.tensor([3.0, 2.0, 0.5])
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    axes = planes.principal_axes(noise @ rotation.T + 7)
    assert (axes.directions[:, 0] @ rotation[:, 0]).abs() > 0.99
    assert (axes.directions[:, 1] @ rotation[:, 1]).abs() > 0.99
    assert axes.shares.tolist() == pytest.approx([9 / 13.25, 4 / 13.25], abs=0.03)
    assert axes.project(noise @ rotation.T + 7).mean(0).abs().max() < 1e-9


def test_principal_axes_do_not_flip_when_the_codes_are_negated() -> None:
    codes = torch.randn(100, 4, dtype=torch.float64) * torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert torch.allclose(planes.principal_axes(codes).directions, planes.principal_axes(-codes).directions)


def test_a_two_dimensional_code_is_shown_as_it_is() -> None:
    codes = torch.randn(50, 2)
    axes = planes.principal_axes(codes)
    assert torch.equal(axes.project(codes), codes)
    assert axes.shares.sum() == pytest.approx(1)


def test_ellipses_have_the_posteriors_widths_along_the_posteriors_axes() -> None:
    axes = planes.Axes2(torch.zeros(2), torch.eye(2), torch.ones(2))
    (wide, tall) = planes.ellipses(torch.tensor([[4.0, 1.0], [1.0, 9.0]]), axes, sigmas=2)
    assert wide[:2] == pytest.approx([8, 4])
    assert wide[2] % 180 == pytest.approx(0, abs=1e-4)
    assert tall[:2] == pytest.approx([12, 4])
    assert tall[2] % 180 == pytest.approx(90, abs=1e-4)


# pages ---------------------------------------------------------------------------------------------------------------


def plane(labels: Labels, *, dimensions: int = 2, prior: bool = True, decoded: bool = True) -> Plane:
    points = np.random.default_rng(0).normal(size=(60, dimensions))
    ellipses = np.tile([0.5, 0.3, 20.0], (10, 1))
    pixels = np.random.default_rng(0).uniform(size=(40, 40, 3)) if decoded else None
    where = Limits(-4, 4, -4, 4)
    return Plane(
        points, where, ("z0", "z1"), labels, Prior((0, 0, 4, 4, 0)) if prior else None, pixels, "a note",
        ellipses=ellipses if prior else ellipses[:0],
    )  # fmt: skip


def some_labels(count: int, names: tuple[str | float, ...] = (), title: str = "") -> Labels:
    return Labels(np.arange(60) % count, names, title)


SUBJECT = "AVariantOfOnesOwn on a-folder-whose-name-is-as-long-as-is-shown…, step 1,234,567"
NO_LABELS = Labels(np.full(60, -1))
DIGITS = some_labels(10, tuple("0123456789"), "digit")


def traversal_page(height: int, width: int) -> Figure:
    image, strips = images(1, 1, height, width)[0], torch.rand(3, 7, 1, height, width)
    labels = ["z0  12.34 nats", "z11  0.00 nats", "z2  -0.00 nats"]
    return figures.traversals(image, image, strips, labels, [0.0, -2.5, 4.0], 2.5, SUBJECT, "a note")


PAGES = {
    "reconstructions": lambda: figures.reconstructions(
        images(10, 1, 28, 28), images(10, 1, 28, 28), torch.arange(10.0), SUBJECT
    ),
    "reconstruction of one": lambda: figures.reconstructions(
        images(1, 3, 9, 13), images(1, 3, 9, 13), torch.tensor([100.0])
    ),
    "interpolations": lambda: figures.interpolations(
        images(2, 3, 32, 20),
        images(2, 3, 32, 20),
        {"linear": torch.rand(2, 9, 3, 32, 20), "spherical": torch.rand(2, 9, 3, 32, 20)},
    ),
    "samples": lambda: figures.samples(
        images(7, 1, 64, 64), 4, "Samples", SUBJECT, "a note that is longer than the images wide " * 2
    ),
    "traversals": lambda: traversal_page(28, 28),
    "traversals of wide images": lambda: traversal_page(9, 64),
    "kl": lambda: figures.latent_kl([10, 20, 40], np.random.default_rng(0).uniform(0, 3, (3, 5)), [1, 3, 5]),
    "kl of one dimension once": lambda: figures.latent_kl([0], np.zeros((1, 1)), [0], SUBJECT),
    "kl of many dimensions": lambda: figures.latent_kl([10, 20], np.ones((2, 200)), [100, 200]),
    "map": lambda: figures.latent_map(plane(DIGITS)),
    "map without prior": lambda: figures.latent_map(plane(DIGITS, prior=False)),
    "map without plane": lambda: figures.latent_map(plane(DIGITS, decoded=False), SUBJECT),
    "map of wide codes": lambda: figures.latent_map(
        replace(plane(DIGITS, decoded=False), limits=Limits(-900, 900, -900, 900), axis_names=("x", "second axis " * 3))
    ),
    "map without labels": lambda: figures.latent_map(plane(NO_LABELS)),
    "map with long names": lambda: figures.latent_map(
        plane(some_labels(12, tuple(["a rather long name"] * 12), "kind"))
    ),
    "map with many classes": lambda: figures.latent_map(plane(some_labels(30, tuple(np.linspace(0, 1, 30)), "pos_x"))),
    "line": lambda: figures.latent_line(replace(plane(DIGITS, dimensions=1), density=np.ones(50))),
    "line without labels": lambda: figures.latent_line(plane(NO_LABELS, dimensions=1)),
    "line with many classes": lambda: figures.latent_line(plane(some_labels(30), dimensions=1)),
}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_at_the_edge_of_a_page(name: str) -> None:
    pixels = figures.raster(PAGES[name]())
    assert pixels.dtype == np.uint8
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()
    assert (pixels != 255).any()


@pytest.mark.parametrize("name", ["kl", "map", "reconstructions"])
def test_the_same_values_give_the_same_picture(name: str) -> None:
    torch.manual_seed(1)
    first = figures.raster(PAGES[name]())
    torch.manual_seed(1)
    assert np.array_equal(first, figures.raster(PAGES[name]()))


def test_a_page_has_exactly_the_pixels_of_its_mosaic() -> None:
    mosaic = mosaics.compose([[torch.rand(3, 28, 28) for _ in range(3)] for _ in range(2)])
    figure, (left, top) = canvas.mosaic_page(mosaic, "A title", row_labels=["upper", "lower"], captions=["1", "2", "3"])
    height, width = mosaic.pixels.shape[:2]
    shown = figures.raster(figure)[top : top + height, left : left + width]
    assert np.abs(shown / 255 - mosaic.pixels).max() <= 1 / 255


@pytest.mark.parametrize("dpi", [50, 150, 300])
def test_at_another_resolution_a_mosaic_keeps_its_place_and_its_values(dpi: int) -> None:
    image = torch.zeros(3, 28, 28)
    image[0, :14] = 1
    mosaic = mosaics.compose([[image] * 3] * 2)
    figure, (left, top) = canvas.mosaic_page(mosaic, "A title", row_labels=["upper", "lower"])
    usual = figures.raster(figure)
    figure.set_dpi(dpi)
    pixels, scale = figures.raster(figure), dpi / canvas.DPI
    assert pixels.shape[:2] == pytest.approx([side * scale for side in usual.shape[:2]], abs=1)
    for row in (0, 1):
        for column in range(3):
            y, x = top + mosaic.tops[row] + mosaic.height / 4, left + mosaic.lefts[column] + mosaic.width / 2
            assert pixels[round(y * scale), round(x * scale)].tolist() == [255, 0, 0]
            assert pixels[round((y + mosaic.height / 2) * scale), round(x * scale)].tolist() == [0, 0, 0]
    figure.set_dpi(canvas.DPI)
    assert np.array_equal(figures.raster(figure), usual)


@pytest.mark.parametrize("name", ["reconstructions", "traversals", "map"])
def test_vector_files_hold_letters_and_are_the_same_each_time(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    figure = PAGES[name]()
    for kind, start in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        for at in (1, 2):
            figures.write_vector(figure, tmp_path / f"{at}.{kind}", kind)
        content = (tmp_path / f"1.{kind}").read_bytes()
        assert content.startswith(start)
        assert content == (tmp_path / f"2.{kind}").read_bytes()
    assert figure.texts[0].get_text() in (tmp_path / "1.svg").read_text()


def test_the_wider_the_posteriors_the_fewer_are_drawn_but_never_none() -> None:
    points = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    drawn = [len(planes.uncrowded(np.tile([width, width, 0.0], (100, 1)), points)) for width in (0.1, 2.0, 20.0)]
    assert drawn == [100, 15, planes.FEWEST]  # 15 circles of two across cover 47 of 100


def test_the_dimension_with_the_largest_kl_is_on_top() -> None:
    kl = np.array([[9.0, 0.0, 0.0], [0.1, 2.0, 1.0]])
    heat_map = figures.latent_kl([1, 2], kl, [1, 3]).axes[0]
    assert [label.get_text() for label in heat_map.get_yticklabels()] == ["z1", "z2", "z0"]
    assert heat_map.get_ylim()[0] > heat_map.get_ylim()[1]
    assert np.asarray(heat_map.images[0].get_array())[:, 1].tolist() == [2.0, 1.0, 0.1]


def test_few_classes_have_a_colour_each_many_have_a_scale_and_unlabelled_points_are_grey() -> None:
    assert len(set(DIGITS.palette().values())) == 10
    assert len(set(some_labels(12).palette().values())) == 12
    assert some_labels(13).few is False
    positions = some_labels(30, tuple(np.linspace(0, 1, 30)), "pos_x")
    assert positions.scale().get_clim() == (0, 1)
    assert set(NO_LABELS.colours()) == {"#5b6b82"}
    assert Labels(np.array([-1, 4])).known == [4]


@pytest.mark.parametrize(
    ("channels", "colours", "told"),
    [
        (1, [0.1, 0.1, 0.1], ""),
        (2, [0.1, 0.2, 0], "channels 1 and 2 as red and green"),
        (3, [0.1, 0.2, 0.3], ""),
        (5, [0.1, 0.2, 0.3], "channels 1 to 3 of 5 as red, green and blue"),
    ],
)
def test_images_of_any_number_of_channels_are_shown_as_the_title_says(
    channels: int, colours: list[float], told: str
) -> None:
    images = torch.arange(1, channels + 1).div(10).view(1, channels, 1, 1).expand(1, -1, 8, 8)
    assert mosaics.shown(images)[0, 0, 0].tolist() == pytest.approx(colours)
    assert mosaics.colours_shown(channels) == told
