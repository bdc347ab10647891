"""One function for each group of numbers: a model and the material in, numbers by name out. They know no variant.

A ``Number`` is what ``evaluation.json`` holds of a metric: its value with sample sizes and error, or None and a reason.
A subject is a model or anything else with the image API.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.config.errors import DataError
from vaezoo.evaluation.features import FeatureExtractor
from vaezoo.evaluation.inputs import CHUNK, Material
from vaezoo.evaluation.settings import BOUND_FLOPS
from vaezoo.metrics import bounds, generation, latent, paths, probes
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.metrics.disentanglement import Sizes, evaluate_disentanglement
from vaezoo.metrics.images import ssim
from vaezoo.nn.interpolation import METHODS

Number = dict[str, Any]
Numbers = dict[str, Number]
Vectors = dict[str, list[float]]

NO_POSTERIOR = "the model maps an image to a point, not to a distribution"
LEAST_BOUND_IMAGES = 500


def mean_of(values: Tensor, **more: Any) -> Number:
    """Mean over images with its standard error: (N,) -> Number."""
    values = values.double()
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "se": error, "n": len(values), **more}


def missing(names: Iterable[str], reason: str) -> Numbers:
    """Numbers that are not defined here, and why."""
    return {name: {"value": None, "reason": reason} for name in names}


def names_of(section: str) -> list[str]:
    """All metrics of a section of the catalogue."""
    return [name for name, metric in CATALOGUE.items() if metric.section == section]


# likelihood and reconstruction ---------------------------------------------------------------------------------------


def likelihood(subject: Any, material: Material) -> tuple[Numbers, Vectors]:
    """ELBO at beta = 1 and its parts, the importance-weighted bound, bits per dimension."""
    seed = material.settings.seed
    recon, kl = bounds.elbo_terms(subject, material.test, seed=seed)
    recon, kl = recon.cpu(), kl.cpu()
    names = [name for name in names_of("likelihood") if name != "log_likelihood"]  # of the reference row alone
    numbers = missing(names, NO_POSTERIOR) | {"recon": mean_of(recon)}
    if subject.posterior(material.test[:1].to(material.device)) is None:
        return numbers, {"recon_of_images": recon.tolist()}
    elbo = -recon - kl.sum(1)
    numbers |= {"elbo": mean_of(elbo), "kl": mean_of(kl.sum(1))}
    vectors = {"elbo_of_images": elbo.tolist(), "kl_of_dimensions": kl.mean(0).tolist()}
    images = material.test[: _bound_images(subject, material)]
    bound, ess = bounds.importance_weighted_bound(subject, images, material.settings.k, seed=seed)
    numbers["iw_bound"] = mean_of(bound.cpu(), k=material.settings.k)
    numbers["iw_ess"] = {"value": float(ess.median()), "n": len(ess), "k": material.settings.k}
    vectors["iw_bound_of_images"] = bound.tolist()
    return numbers | {"bits_per_dim": _bits_per_dim(subject, material, elbo)}, vectors


def _bits_per_dim(subject: Any, material: Material, elbo: Tensor) -> Number:
    if not subject.likelihood.discrete:
        return {"value": None, "reason": "the likelihood is a density, for which bits are not defined"}
    if not bool(subject.likelihood.supports(material.test).all()):
        return {"value": None, "reason": "the likelihood is not defined on these images; see data.binarize"}
    return mean_of(metrics.bits_per_dim(-elbo, material.test[0].numel()))


def _bound_images(subject: Any, material: Material) -> int:
    """How many images the bound is taken over: what was set, or what the operations allow."""
    from vaezoo.evaluation.cost import flops_per_image

    if material.settings.bound_images is not None:
        return material.settings.bound_images
    allowed = BOUND_FLOPS / (material.settings.k * max(1, flops_per_image(subject) / 2))
    return max(LEAST_BOUND_IMAGES, int(allowed))


def reconstruction(subject: Any, material: Material) -> tuple[Numbers, Vectors]:
    """Errors of reconstructions from the mean of the posterior."""

    def errors(x: Tensor) -> Tensor:
        decoded = subject.reconstruct(x)
        mse = metrics.mse(x, decoded)
        return torch.stack([mse, metrics.psnr(mse), ssim(x, decoded)], dim=1)

    mse, psnr, similarity = material.map(errors, material.test).T
    numbers = {"mse": mean_of(mse), "psnr": mean_of(psnr), "ssim": mean_of(similarity)}
    return numbers, {"psnr_of_images": psnr.tolist()}


# generation and interpolation ----------------------------------------------------------------------------------------


def generated(subject: Any, material: Material, codes: Tensor) -> tuple[Numbers, Vectors]:
    """How near images from the prior, from a mixture and from reconstruction come to the test set."""
    count = min(material.settings.samples, len(material.test))
    mixture = generation.fit_mixture(codes, seed=material.settings.seed)
    drawn = mixture.sample(count, torch.Generator().manual_seed(material.settings.seed))
    sources: dict[str, Callable[[], Iterator[Tensor]] | str] = {
        "prior": lambda: _prior_samples(subject, material, count),
        "mixture": lambda: (subject.decode(part.to(material.device)) for part in drawn.split(CHUNK)),
        "reconstruction": lambda: (subject.reconstruct(x.to(material.device)) for x in material.test.split(CHUNK)),
    }
    if subject.sample(1, torch.Generator()) is None:
        sources["prior"] = "the model has no prior to draw codes from"
    numbers: Numbers = {}
    for features, extractor in material.extractors.items():
        for source, images in sources.items():
            numbers |= _against_test(material, source, features, extractor, images)
        numbers |= _floor(material, features, extractor)
    return numbers, {}


def _prior_samples(subject: Any, material: Material, count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(material.settings.seed)
    for start in range(0, count, CHUNK):
        yield subject.sample(min(CHUNK, count - start), generator)


def _against_test(
    material: Material,
    source: str,
    features: str,
    extractor: FeatureExtractor | str,
    images: Callable[[], Iterator[Tensor]] | str,
) -> Numbers:
    """All distances of one source in one feature space."""
    names = {
        short: f"{source}_{short}_{features}" for short in ("fd", "kd", "precision", "recall", "density", "coverage")
    }
    for reason in (extractor, images):
        if isinstance(reason, str):
            return missing(names.values(), reason)
    assert isinstance(extractor, FeatureExtractor)
    assert callable(images)
    with torch.no_grad():
        fake = material.features(extractor, images())
    real = material.real_features(features, "test")
    n = {"n": len(fake), "n_real": len(real), "features": extractor.version}
    if not torch.isfinite(fake).all():
        return missing(names.values(), "the decoded images are not finite")
    kernel = generation.kernel_distance(real, fake)
    found: Numbers = {
        names["fd"]: {"value": generation.frechet_distance(real, fake), **n},
        names["kd"]: {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }
    if min(len(fake), len(real)) <= 5:
        return found | missing([names[short] for short in list(names)[2:]], "too few images for nearest neighbours")
    scores = generation.manifold_scores(real, fake)
    return found | {names[short]: {"value": getattr(scores, short), **n} for short in list(names)[2:]}


def _floor(material: Material, features: str, extractor: FeatureExtractor | str) -> Numbers:
    """The same distances of training images: what a perfect model would get."""
    names = [f"floor_fd_{features}", f"floor_kd_{features}"]
    if isinstance(extractor, str):
        return missing(names, extractor)
    real, train = material.real_features(features, "test"), material.real_features(features, "train")
    train = train[: min(material.settings.samples, len(real))]
    kernel = generation.kernel_distance(real, train)
    n = {"n": len(train), "n_real": len(real), "features": extractor.version}
    return {
        names[0]: {"value": generation.frechet_distance(real, train), **n},
        names[1]: {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }


def interpolation(subject: Any, material: Material) -> tuple[Numbers, Vectors]:
    """Midpoints of paths between test images against the test set, and how evenly the paths run."""
    extractor = material.extractors["classifier"]
    start, end = material.pairs
    codes = material.map(subject.encode, material.test)
    middles = {method: path(codes[start], codes[end], 3)[:, 1] for method, path in METHODS.items()}
    numbers: Numbers = {}
    for place, chosen in {"endpoints": codes[start], **middles}.items():
        if isinstance(extractor, str):
            numbers |= missing([f"interpolation_{short}_{place}" for short in ("fd", "kd")], extractor)
        else:
            decoded = (subject.decode(part.to(material.device)) for part in chosen.split(CHUNK))
            numbers |= _distances_at(material, place, extractor, decoded)
    for method in METHODS:
        numbers |= _paces(subject, material, method, extractor)
    return numbers, {}


def _distances_at(material: Material, place: str, extractor: FeatureExtractor, decoded: Iterator[Tensor]) -> Numbers:
    """Distances from the test set of what is decoded at one place of all paths."""
    with torch.no_grad():
        fake = material.features(extractor, decoded)
    real = material.real_features("classifier", "test")
    n = {"n": len(fake), "n_real": len(real), "features": extractor.version}
    kernel = generation.kernel_distance(real, fake)
    return {
        f"interpolation_fd_{place}": {"value": generation.frechet_distance(real, fake), **n},
        f"interpolation_kd_{place}": {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }


def _paces(subject: Any, material: Material, method: str, extractor: FeatureExtractor | str) -> Numbers:
    start, end = (positions[: material.settings.paths] for positions in material.pairs)
    pixels, features = [], []
    for one, other in zip(material.test[start].split(20), material.test[end].split(20), strict=True):
        images = subject.interpolate(
            one.to(material.device), other.to(material.device), steps=material.settings.steps, method=method
        )
        pixels.append(paths.step_ratio(images.cpu()))
        if not isinstance(extractor, str):
            felt = extractor.extract(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            features.append(paths.step_ratio(felt))
    steps = {"steps": material.settings.steps}
    numbers = {f"step_ratio_pixels_{method}": mean_of(torch.cat(pixels), **steps)}
    if isinstance(extractor, str):
        return numbers | missing([f"step_ratio_features_{method}"], extractor)
    return numbers | {f"step_ratio_features_{method}": mean_of(torch.cat(features), **steps)}


# latent space --------------------------------------------------------------------------------------------------------


def latent_space(subject: Any, material: Material, train_codes: Tensor, test_codes: Tensor) -> tuple[Numbers, Vectors]:
    """Active units, the parts of the averaged KL, and how well labels can be told from codes."""
    numbers, vectors = _posterior_statistics(subject, material)
    return numbers | probed(material, train_codes, test_codes), vectors


def _posterior_statistics(subject: Any, material: Material) -> tuple[Numbers, Vectors]:
    names = ["active_units", "mutual_information", "total_correlation", "dimensionwise_kl", "aggregate_kl"]
    if subject.posterior(material.test[:1].to(material.device)) is None:
        return missing(names, NO_POSTERIOR), {}
    both = material.map(lambda x: torch.cat(subject.posterior(x), dim=1), material.test)
    mean, logvar = both.chunk(2, dim=1)
    variance = mean.double().var(0, correction=0)
    parts = latent.decompose(mean, logvar, generator=torch.Generator().manual_seed(material.settings.seed))
    numbers: Numbers = {"active_units": {"value": int(metrics.active_units(variance)), "n": len(mean)}}
    for name in names[1:]:
        sizes = {"se": parts.standard_errors[name], "n": parts.n, "samples": parts.samples}
        numbers[name] = {"value": getattr(parts, name), **sizes}
        if parts.saturated:
            numbers[name]["note"] = f"mutual information is at its limit of log n = {math.log(parts.n):.2f} nats"
    return numbers, {"variance_of_means": variance.tolist()}


def probed(material: Material, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Accuracy of a linear probe and of nearest neighbours."""
    names = ["probe_accuracy", "knn_accuracy"]
    if not material.labelled:
        return missing(names, f"{material.data.name} has no labels")
    labels = (material.train_labels[: len(train_codes)], material.test_labels[: len(test_codes)])
    factors = [factor.name for factor in material.data.factors]
    arguments = (train_codes, labels[0], test_codes, labels[1])
    numbers: Numbers = {}
    for name, probe in zip(names, (probes.linear_probe, probes.knn_probe), strict=True):
        found = probe(*arguments, seed=material.settings.seed, factors=factors)
        numbers[name] = {"value": found.value, "se": found.standard_error, "n": found.n_test}
        numbers[name] |= {"n_train": found.n_train, "majority": found.majority}
        if found.of_factors:
            numbers[name]["of_factors"] = found.of_factors
    return numbers


def disentanglement(material: Material, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """The scores for data with known factors, for codes of training and test images."""
    names = names_of("disentanglement")
    if not material.data.has_known_factors:
        return missing(names, f"the factors behind {material.data.name} are not known")
    if not material.settings.disentanglement:
        return missing(names, "left out of this evaluation; see vaezoo evaluate")
    labels = (material.train_labels[: len(train_codes)], material.test_labels[: len(test_codes)])
    settings = material.settings
    sizes = Sizes(train=settings.train_images, dci_train=settings.dci_train)
    arrays = (train_codes.numpy(), labels[0].numpy(), test_codes.numpy(), labels[1].numpy())
    names_of_factors = [factor.name for factor in material.data.factors]
    try:
        scores = evaluate_disentanglement(*arrays, seed=settings.seed, sizes=sizes, names=names_of_factors)
    except DataError as error:
        return missing(names, str(error))
    return {
        name: {
            "value": score.value,
            "n": score.n,
            **score.settings,
            **({"reason": score.reason} if score.reason else {}),
        }
        for name, score in scores.items()
    }
