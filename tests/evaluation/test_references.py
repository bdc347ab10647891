"""PCA equals scikit-learn's and its likelihood torch's; fresh weights and factor codes are what they say."""

from collections.abc import Callable

import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA
from torch import Tensor
from torch.distributions import MultivariateNormal

from tests.conftest import some_models
from vaezoo.commands.check.clauses import given
from vaezoo.data.images import Factor
from vaezoo.evaluation.references import LEAST_SIGMA, PCA, factor_codes, untrained
from vaezoo.models import Autoencoder

Make = Callable[..., Autoencoder]


def images(count: int, *shape: int, rank: int = 6) -> Tensor:
    """Images near a linear space of ``rank`` dimensions, with variances far apart."""
    pixels = torch.Size(shape).numel()
    codes = torch.randn(count, rank) * torch.linspace(1, 3, rank)
    flat = 0.5 + 0.01 * codes @ torch.randn(rank, pixels) + 0.01 * torch.randn(count, pixels)
    return flat.clamp(0, 1).view(count, *shape)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 14, 14)])
def test_reconstructions_and_codes_are_those_of_scikit_learn(shape: tuple[int, ...]) -> None:
    x, unseen = images(90, *shape), images(7, *shape)
    pca, other = PCA(x, latent_dim=5), SklearnPCA(5, svd_solver="full", whiten=True).fit(x.flatten(1).numpy())
    codes = torch.from_numpy(other.transform(unseen.flatten(1).numpy()))
    expected = torch.from_numpy(other.inverse_transform(codes.numpy())).view(7, *shape)
    torch.testing.assert_close(pca.reconstruct(unseen), expected.clamp(0, 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(pca.decode(pca.encode(unseen)), pca.reconstruct(unseen))
    torch.testing.assert_close(pca.encode(unseen).abs(), codes.abs() * (90 / 89) ** 0.5, atol=0.02, rtol=0.02)


def test_codes_of_training_images_are_uncorrelated_with_variance_one() -> None:
    x = images(200, 1, 4, 4)
    codes = PCA(x, latent_dim=4).encode(x)
    torch.testing.assert_close(codes.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.T.cov(correction=0), torch.eye(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("latent_dim", [1, 5, 15])
def test_the_likelihood_is_that_of_the_multivariate_normal_with_the_maximum_likelihood_noise(latent_dim: int) -> None:
    x, unseen = images(300, 1, 4, 4), images(9, 1, 4, 4)
    flat = x.flatten(1).double()
    variances, directions = torch.linalg.eigh(flat.T.cov(correction=0))
    noise = variances[:-latent_dim].mean()
    kept = directions[:, -latent_dim:]
    covariance = kept @ (variances[-latent_dim:] - noise).diag() @ kept.T + noise * torch.eye(16)
    expected = MultivariateNormal(flat.mean(0), covariance).log_prob(unseen.flatten(1).double())
    torch.testing.assert_close(PCA(x, latent_dim).log_likelihood_of_images(unseen), expected, atol=0.01, rtol=1e-4)


def test_no_other_noise_is_likelier_on_the_training_images() -> None:
    x = images(300, 1, 4, 4)
    pca = PCA(x, latent_dim=4)
    best = pca.log_likelihood_of_images(x).mean()
    for factor in (0.9, 1.1):
        other = PCA(x, latent_dim=4)
        other.sigma *= factor
        assert other.log_likelihood_of_images(x).mean() < best


def test_more_components_than_images_span_are_zero_and_the_noise_has_a_floor() -> None:
    x = images(5, 1, 4, 4)
    pca = PCA(x, latent_dim=20)
    codes = pca.encode(images(3, 1, 4, 4))
    assert codes.shape == (3, 20)
    assert (codes[:, 4:] == 0).all()  # five images span four directions around their mean
    assert pca.sigma.item() == pytest.approx(LEAST_SIGMA)
    torch.testing.assert_close(pca.reconstruct(x), x, atol=1e-4, rtol=0)
    assert pca.log_likelihood_of_images(x).isfinite().all()


def test_components_without_variance_have_the_variance_of_the_noise() -> None:
    x = images(5, 1, 4, 4)
    flat = x.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T.cov(correction=0))
    covariance = vectors @ values.clamp(min=LEAST_SIGMA**2).diag() @ vectors.T
    expected = MultivariateNormal(flat.mean(0), covariance).log_prob(flat)
    for latent_dim in (6, 16, 20):
        torch.testing.assert_close(PCA(x, latent_dim).log_likelihood_of_images(x), expected, atol=0.01, rtol=1e-4)


def test_images_that_are_all_the_same_have_codes_of_zero() -> None:
    pca = PCA(torch.full((10, 1, 4, 4), 0.25), latent_dim=3)
    assert (pca.encode(torch.rand(2, 1, 4, 4)) == 0).all()
    torch.testing.assert_close(pca.sample(2), torch.full((2, 1, 4, 4), 0.25))


def test_pca_has_the_image_api_of_a_model_without_posterior() -> None:
    pca = PCA(images(50, 1, 4, 6), latent_dim=3).eval()
    x = images(4, 1, 4, 6)
    assert pca.image_shape == (1, 4, 6)
    assert pca.latent_dim == 3
    assert pca.posterior(x) is None
    assert pca.prior() is None
    path = pca.interpolate(x[:2], x[2:], steps=5, method="spherical")
    assert path.shape == (2, 5, 1, 4, 6)
    torch.testing.assert_close(path[:, 0], pca.reconstruct(x[:2]))
    torch.testing.assert_close(path[:, -1], pca.reconstruct(x[2:]), atol=1e-5, rtol=0)
    draws = pca.sample(6, torch.Generator().manual_seed(1))
    assert draws.shape == (6, 1, 4, 6)
    assert torch.equal(draws, pca.sample(6, torch.Generator().manual_seed(1)))


def test_draws_have_the_variance_of_the_components() -> None:
    x = images(300, 1, 4, 4)
    pca = PCA(x, latent_dim=16)
    draws = pca.sample(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.var(0), x.var(0), rtol=0.1, atol=0)


def test_pixels_stay_within_bounds() -> None:
    pca = PCA(torch.rand(20, 1, 4, 4), latent_dim=3)
    pixels = pca.decode(100 * torch.randn(50, 3))
    assert pixels.min() == 0
    assert pixels.max() == 1


@pytest.mark.parametrize("variant", some_models(6))
def test_an_untrained_model_is_of_the_same_build_with_weights_by_its_own_seed(variant: str, make_model: Make) -> None:
    torch.manual_seed(5)
    model = make_model(variant)
    state = torch.get_rng_state()
    fresh, again, other = untrained(model), untrained(model), untrained(model, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert type(fresh) is type(model)
    assert dict(fresh.hparams) == dict(model.hparams)
    assert not fresh.training
    x = torch.rand(2, 1, 16, 16)
    found, same, *others = (given(each, 2).encode(x) for each in (fresh, again, other, model))
    assert torch.equal(found, same)
    assert not any(torch.allclose(found, code) for code in others)


def test_a_model_keeps_its_weights_when_a_fresh_one_is_made(make_model: Make) -> None:
    model = make_model("vae").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    untrained(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


FACTORS = (Factor("shape", ("square", "ellipse", "heart")), Factor("scale", (0.5, 1.0)), Factor("colour", ("white",)))


def test_factor_codes_are_the_classes_with_mean_0_and_variance_1_over_all_combinations() -> None:
    labels = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(1))
    codes = factor_codes(labels, FACTORS)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.mean(0), torch.zeros(3))
    torch.testing.assert_close(codes.var(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))
    assert codes[labels[:, 0].argsort(stable=True), 0].diff().min() >= 0


def test_classes_alone_are_one_factor() -> None:
    torch.testing.assert_close(factor_codes(torch.tensor([1, 0]), FACTORS[1:2]), torch.tensor([[1.0], [-1.0]]))
