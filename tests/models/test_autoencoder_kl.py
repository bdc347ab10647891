"""The autoencoder of latent diffusion has the published loss, and its log variances have bounds."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SHARED
from vaezoo import Run
from vaezoo.config.errors import ConfigError
from vaezoo.models import AutoencoderKL
from vaezoo.nn.likelihoods import make_likelihood
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.priors.gaussian import StandardNormal

SHAPE = [3, 16, 16]
VECTORS = SHARED.parent / "zoo" / "discrete_vectors.json"


def known(name: str) -> torch.Tensor:
    """A value that was computed in two ways in float64."""
    if not VECTORS.is_file():
        pytest.skip(f"needs {VECTORS}, which is not part of the repository")
    return torch.tensor(json.loads(VECTORS.read_text())[name]["value"], dtype=torch.double)


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and pixel means (3, 3, 4, 4), posterior means and log variances (2, 4, 2, 2), some far out."""
    draw = np.random.RandomState(20)
    x, mean = draw.rand(3, 3, 4, 4), draw.rand(3, 3, 4, 4)
    code, logvar = draw.randn(2, 4, 2, 2), np.clip(30 * draw.randn(2, 4, 2, 2), -40, 8)
    return tuple(torch.from_numpy(values) for values in (x, mean, code, logvar))  # type: ignore[return-value]


def test_the_laplace_density_is_the_known_one() -> None:
    x, mean, _, _ = drawn()
    likelihood = make_likelihood("laplace", {"scale": math.exp(-1.3)})
    torch.testing.assert_close(likelihood.nll(x, torch.logit(mean)), known("laplace_nll"), rtol=1e-9, atol=1e-9)


def test_the_kl_of_a_spatial_code_is_the_known_one_with_clamped_log_variances() -> None:
    _, _, code, logvar = drawn()
    family = make_posterior_model("diagonal", 4, {"logvar_range": [-30.0, 20.0]})
    posterior = family(torch.cat([code, logvar], dim=1).flatten(1))
    kl = posterior.kl(StandardNormal(16, torch.device("cpu")), posterior.draw())
    torch.testing.assert_close(kl.sum(1), known("spatial_kl"), rtol=1e-9, atol=1e-7)
    assert posterior.logvar.min() == -30


@pytest.mark.parametrize("bounds", [[1.0, 1.0], [2.0, -2.0], [1.0]])
def test_bounds_of_log_variances_must_be_in_order(bounds: list[float]) -> None:
    with pytest.raises(ConfigError, match="logvar_range must be two numbers, the smaller one first"):
        make_posterior_model("diagonal", 4, {"logvar_range": bounds})


def test_its_loss_is_that_of_latent_diffusion() -> None:
    """Sums over elements of |x - y| + distance with pixels in [-1, 1] and a log variance of 0, plus 1e-6 KL."""
    x = torch.rand(2, *SHAPE)
    model = AutoencoderKL(image_shape=SHAPE, widths=[8], perceptual="lite0", discriminator=None)
    terms = model.loss_terms(x)
    objective = model.objective(terms, model.weights())
    assert terms.draw is not None
    assert model.perceptual is not None
    y = model.decode(terms.draw.first)
    distance = model.perceptual.between(x, y)[:, None, None, None]
    expected = ((2 * x - 1) - (2 * y - 1)).abs() + distance
    torch.testing.assert_close(objective, expected.sum((1, 2, 3)) + 1e-6 * terms.kl.sum(1))
    assert model.code_shape == (4, 8, 8)
    assert model.formula() == "recon + 1e-06 kl + 768 lite0"
    usual = AutoencoderKL(image_shape=SHAPE, widths=[8])
    assert usual.formula() == "recon + 1e-06 kl + 0.5 ratio generator (from 10% of the run on)"


def test_log_variances_at_a_bound_are_counted_and_warned_of_once(
    program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words = ("model=autoencoder_kl", "model.widths=[8]", "data.limit=32", "callbacks=none", "evaluation=none")

    def shares(name: str, *more: str) -> tuple[list[float], str]:
        code, printed = program("train", f"run_dir={tmp_path / name}", *words, "trainer.max_epochs=3", *more)
        assert code == 0, printed
        summary = Run(tmp_path / name).summary
        return [summary[stage]["logvar_at_bound"] for stage in ("val", "test")], printed

    found, printed = shares("usual")
    assert found == [0, 0]
    assert "logvar_range" not in printed
    found, printed = shares("narrow", "model.posterior_options={logvar_range: [-1e-9, 1e-9]}")
    assert min(found) > 0.9
    assert printed.count("at an end of model.posterior_options.logvar_range") == 1
