"""Distances of generated images from the test set."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vaezoo.evaluation import index_priors
from vaezoo.evaluation.features import FeatureExtractor
from vaezoo.evaluation.inputs import CHUNK, Inputs
from vaezoo.evaluation.sections.numbers import Number, Numbers, Vectors, missing
from vaezoo.metrics import generation, mixtures

NO_MIXTURE = "the model decodes codes given a label, which a mixture of codes does not draw"


def generated(subject: Any, inputs: Inputs, codes: Tensor) -> tuple[Numbers, Vectors]:
    """Distances of prior samples, mixture samples and reconstructions from the test set, in each feature space.

    The mixture is fitted to the training codes (N, D) and kept as ``subject.mixture``.
    """
    count = min(inputs.settings.samples, len(inputs.test))
    sources: dict[str, Callable[[], Iterator[Tensor]] | str] = {
        "prior": lambda: _prior_samples(subject, inputs, count),
        "mixture": NO_MIXTURE if getattr(subject, "is_conditional", False) else mixtures.no_mixture(codes),
        "reconstruction": lambda: (seen.reconstruct(x) for seen, x in inputs.chunks(subject)),
    }
    about: dict[str, Number] = {}
    if not sources["mixture"]:
        subject.mixture = mixtures.fit_mixture(codes, seed=inputs.settings.seed)
        drawn = subject.mixture.sample(count, inputs.generator())
        sources["mixture"] = lambda: (
            subject.decode(subject.project(part.to(inputs.device))) for part in drawn.split(CHUNK)
        )
        if subject.mixture.axes is not None:
            about["mixture"] = {"axes": f"{subject.mixture.axes} of {subject.mixture.dimensions}"}
    if subject.sample(1, torch.Generator()) is None:
        sources["prior"] = _no_prior(subject)
    elif getattr(subject, "index_prior", None) is not None:
        about["prior"] = {"prior": index_priors.describe(subject)}
    numbers: Numbers = {}
    for features, extractor in inputs.extractors.items():
        for source, images in sources.items():
            numbers |= _against_test(inputs, source, features, extractor, images, about.get(source, {}))
        numbers |= _floor(inputs, features, extractor)
    return numbers | _independent(subject, inputs), {}


def _independent(subject: Any, inputs: Inputs) -> Numbers:
    """The Frechet distance of images decoded from independent indices: what a prior over indices improves upon."""
    name, extractor = "independent_fd_classifier", inputs.extractors["classifier"]
    if getattr(subject, "index_shape", None) is None:  # of PCA too
        return missing([name], index_priors.CONTINUOUS)
    if subject.is_conditional:
        return missing([name], "the model decodes codes given a label")
    if isinstance(extractor, str):
        return missing([name], extractor)
    layout, count = subject.index_layout, min(inputs.settings.samples, len(inputs.test))
    counts = layout.counts(inputs.map(subject.indices, inputs.train))
    drawn = layout.independent_draws(counts, count, inputs.generator())
    with torch.no_grad():
        decoded = (subject.decode(subject.codes_at(part.to(inputs.device))) for part in drawn.split(CHUNK))
        fake = inputs.features(extractor, decoded)
    real = inputs.real_features("classifier", "test")
    sizes = {"n": count, "n_real": len(real), "features": extractor.version}
    return {name: {"value": generation.frechet_distance(real, fake), **sizes}}


def _no_prior(subject: Any) -> str:
    fit = "" if subject.index_shape is None else "; to fit one to its indices: vaezoo prior RUN_DIR"
    return f"the model has no prior to draw codes from{fit}"


def _prior_samples(subject: Any, inputs: Inputs, count: int) -> Iterator[Tensor]:
    generator = inputs.generator()
    for start in range(0, count, CHUNK):
        yield subject.sample(min(CHUNK, count - start), generator)


def _against_test(
    inputs: Inputs,
    source: str,
    features: str,
    extractor: FeatureExtractor | str,
    images: Callable[[], Iterator[Tensor]] | str,
    about: Number,
) -> Numbers:
    """All distances of one source of images in one feature space; ``about`` is recorded with each."""
    names = {
        short: f"{source}_{short}_{features}" for short in ("fd", "kd", "precision", "recall", "density", "coverage")
    }
    for reason in (extractor, images):
        if isinstance(reason, str):
            return missing(names.values(), reason)
    assert isinstance(extractor, FeatureExtractor)
    assert callable(images)
    with torch.no_grad():
        fake = inputs.features(extractor, images())
    real = inputs.real_features(features, "test")
    n = {"n": len(fake), "n_real": len(real), "features": extractor.version, **about}
    if not torch.isfinite(fake).all():
        return missing(names.values(), "the decoded images are not finite")
    kernel = generation.kernel_distance(real, fake)
    found: Numbers = {
        names["fd"]: {"value": generation.frechet_distance(real, fake), **n, **_protocol(extractor)},
        names["kd"]: {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }
    if min(len(fake), len(real)) <= 5:
        return found | missing([names[short] for short in list(names)[2:]], "too few images for nearest neighbours")
    scores = generation.manifold_scores(real, fake)
    return found | {names[short]: {"value": getattr(scores, short), **n} for short in list(names)[2:]}


def _protocol(extractor: FeatureExtractor) -> dict[str, str]:
    """How images are prepared for a published network: distances of another protocol are other numbers."""
    return {"protocol": extractor.protocol} if extractor.protocol else {}


def _floor(inputs: Inputs, features: str, extractor: FeatureExtractor | str) -> Numbers:
    """The same distances for training images: the values of a perfect model."""
    names = [f"floor_fd_{features}", f"floor_kd_{features}"]
    if isinstance(extractor, str):
        return missing(names, extractor)
    real, train = inputs.real_features(features, "test"), inputs.real_features(features, "train")
    train = train[: min(inputs.settings.samples, len(real))]
    kernel = generation.kernel_distance(real, train)
    n = {"n": len(train), "n_real": len(real), "features": extractor.version}
    return {
        names[0]: {"value": generation.frechet_distance(real, train), **n},
        names[1]: {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }
