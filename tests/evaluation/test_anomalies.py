"""Scores of anomalies: each is the quantity that its name says, whatever the batch."""

import numpy as np
import pytest
import torch

from vaezoo import metrics
from vaezoo.config.errors import DataError
from vaezoo.evaluation.anomalies import SCORES, AnomalyScorer, TrainingCodes, missing_scores
from vaezoo.metrics.bounds import elbo_terms, importance_weighted_bound
from vaezoo.models import AE, VAE, VQVAE, Autoencoder, ConditionalVAE

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CODES = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2.0, 0.1])


def small(cls: type[Autoencoder], **settings: object) -> Autoencoder:
    torch.manual_seed(0)
    return cls(image_shape=[1, 8, 8], latent_dim=3, widths=[8], **settings).eval()


def test_every_score_is_what_it_says() -> None:
    model = small(VAE)
    found = AnomalyScorer(model, TrainingCodes.fit(CODES, 4), draws=7, seed=3)(X)
    recon, kl = elbo_terms(model, X, seed=3)
    bound, _ = importance_weighted_bound(model, X, 7, seed=3)
    with torch.no_grad():
        code = model.encode(X).double()
    assert list(found) == list(SCORES)
    torch.testing.assert_close(found["mse"], metrics.mse(X, model.reconstruct(X)).double())
    torch.testing.assert_close(found["recon"], recon)
    torch.testing.assert_close(found["neg_elbo"], recon + kl.sum(1))
    torch.testing.assert_close(found["neg_iw_bound"], -bound)
    torch.testing.assert_close(found["kl"], kl.sum(1))
    nearest = torch.cdist(code, CODES.double()).sort(1).values[:, 3]
    torch.testing.assert_close(found["knn_distance"], nearest)


def test_mahalanobis_distance_counts_standard_deviations() -> None:
    codes = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2.0, 0.1])
    one_away = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0.1], [0, 0, 0]])
    found = TrainingCodes.fit(codes).distances(one_away)["mahalanobis"]
    assert found.tolist() == pytest.approx([1, 1, 1, 0], abs=0.03)


def test_codes_with_more_dimensions_than_images_have_finite_distances() -> None:
    found = TrainingCodes.fit(torch.randn(10, 40)).distances(torch.randn(3, 40))
    assert all(np.isfinite(values).all() and (values > 0).all() for values in found.values())


def test_a_model_without_a_posterior_or_training_codes_has_fewer_scores() -> None:
    scorer = AnomalyScorer(small(AE), TrainingCodes.fit(CODES))
    found = scorer(X)
    assert list(found) == ["mse", "recon", "knn_distance", "mahalanobis"]
    assert "to a point" in missing_scores(scorer, found)["neg_elbo"]
    alone = AnomalyScorer(small(VAE))
    assert list(missing_scores(alone, alone(X))) == ["knn_distance", "mahalanobis"]
    torch.manual_seed(0)
    discrete = AnomalyScorer(VQVAE(image_shape=[1, 8, 8], widths=[8, 8]).eval())
    found = discrete(X)
    assert list(found) == ["mse", "recon", "neg_elbo", "kl"]
    assert missing_scores(discrete, found)["neg_iw_bound"] == "all draws of a point are equal"


def test_a_conditional_model_is_given_labels() -> None:
    scorer = AnomalyScorer(small(ConditionalVAE, classes=3), draws=2)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found, of_ones = scorer(X, labels), scorer(X, 1)
    same = found["neg_elbo"] == of_ones["neg_elbo"]
    assert same.tolist() == (labels == 1).tolist()


def test_too_few_training_codes_are_refused() -> None:
    with pytest.raises(DataError, match="5 neighbours need as many training images, at least 2, got 3"):
        TrainingCodes.fit(CODES[:3])
