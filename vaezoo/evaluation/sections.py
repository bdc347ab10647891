"""The sections of an evaluation: one function per group of metrics.

A ``Number`` is the entry of a metric in ``evaluation.json``: its value with sample sizes and standard error, or None
with a reason. A subject is a model, or any other object with the image API.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.config.errors import DataError
from vaezoo.config.shapes import NOT_IMAGES, is_table
from vaezoo.evaluation import index_priors
from vaezoo.evaluation.features import FeatureExtractor
from vaezoo.evaluation.inputs import CHUNK, Inputs
from vaezoo.evaluation.per_image import NO_POSTERIOR
from vaezoo.evaluation.settings import BOUND_FLOPS
from vaezoo.metrics import bounds, codebooks, generation, latent, mixtures, paths, probes
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.metrics.disentanglement import Sizes, evaluate_disentanglement
from vaezoo.metrics.images import ms_ssim, ssim
from vaezoo.nn.interpolation import METHODS

Number = dict[str, Any]
Numbers = dict[str, Number]
Vectors = dict[str, list[float]]

GIVEN_LABEL = "the model is one of images given their label, p(x|y), whose bounds are other quantities"
NO_MIXTURE = "the model decodes codes given a label, which a mixture of codes does not draw"
OF_INDEX_PRIOR = ("prior_rate", "elbo_prior")
LEAST_BOUND_IMAGES = 500
MOST_MOMENTS = 4096
"""Maximum dimensions of codes whose covariance is taken."""


def mean_of(values: Tensor, **more: Any) -> Number:
    """Mean over images with its standard error; ``values`` is (N,)."""
    values = values.double()
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "se": error, "n": len(values), **more}


def missing(names: Iterable[str], reason: str) -> Numbers:
    """Metrics that are not defined, with the reason."""
    return {name: {"value": None, "reason": reason} for name in names}


def names_of(section: str) -> list[str]:
    """Names of the metrics in a section of the catalogue."""
    return [name for name, metric in CATALOGUE.items() if metric.section == section]


# likelihood and reconstruction ---------------------------------------------------------------------------------------


def likelihood(subject: Any, inputs: Inputs) -> tuple[Numbers, Vectors]:
    """ELBO at beta = 1, recon and KL, and the importance-weighted bound, in nats; bits per dimension."""
    seed, labels = inputs.settings.seed, inputs.test_labels if subject.is_conditional else None
    recon, kl = bounds.elbo_terms(subject, inputs.test, labels=labels, seed=seed)
    recon, kl = recon.cpu(), kl.cpu()
    names = [name for name in names_of("likelihood") if name != "log_likelihood"]  # only PCA has it
    names, elbo_name, bound_name = _names_of_bounds(subject, names)
    numbers = missing(names, NO_POSTERIOR) | {"recon": mean_of(recon)}
    numbers |= missing(OF_INDEX_PRIOR, index_priors.lacking(subject) or NO_POSTERIOR)
    if not kl.shape[1]:
        return numbers, {"recon_of_images": recon.tolist()}
    elbo, posterior = -recon - kl.sum(1), _example(subject, inputs)
    numbers |= {
        elbo_name: mean_of(elbo),
        "kl": mean_of(kl.sum(1)),
        "bits_per_dim": _bits_per_dim(subject, inputs, elbo),
    }
    if subject.is_conditional:
        numbers |= missing(["elbo", "iw_bound", "bits_per_dim"], GIVEN_LABEL)
    vectors = {f"{elbo_name}_of_images": elbo.tolist()}
    if not index_priors.lacking(subject):
        of_prior, of_images = _with_index_prior(subject, inputs, elbo)
        numbers, vectors = numbers | of_prior, vectors | of_images
    if posterior is None:
        return numbers | missing([bound_name, "iw_ess"], "all draws of a point are equal"), vectors
    if posterior.kl_by(subject.given(inputs.test_labels[0]).prior()) == "dimension":
        vectors["kl_of_dimensions"] = kl.mean(0).tolist()
    if posterior.kl_by(subject.prior()) == "level":
        vectors["kl_of_levels"] = kl.mean(0).tolist()
    images = inputs.test[: _bound_images(subject, inputs)]
    labels = None if labels is None else labels[: len(images)]
    bound, ess = bounds.importance_weighted_bound(subject, images, inputs.settings.k, labels=labels, seed=seed)
    numbers[bound_name] = mean_of(bound.cpu(), k=inputs.settings.k)
    numbers["iw_ess"] = {"value": float(ess.median()), "n": len(ess), "k": inputs.settings.k}
    vectors[f"{bound_name}_of_images"] = bound.tolist()
    return numbers, vectors


def _with_index_prior(subject: Any, inputs: Inputs, elbo: Tensor) -> tuple[Numbers, Vectors]:
    """The rate under the fitted prior, and the ELBO with it, given that with uniform indices (N,)."""
    rate = index_priors.rates(subject, inputs)
    bound, about = index_priors.with_prior(subject, elbo, rate), {"prior": index_priors.describe(subject)}
    numbers = {"prior_rate": mean_of(rate, **about), "elbo_prior": mean_of(bound, **about)}
    return numbers, {"elbo_prior_of_images": bound.tolist()}


def _names_of_bounds(subject: Any, names: list[str]) -> tuple[list[str], str, str]:
    """The names that a subject can have, and those of its ELBO and of its importance-weighted bound."""
    if subject.is_conditional:
        return names, "elbo_given_label", "iw_bound_given_label"
    return [name for name in names if not name.endswith("_given_label")], "elbo", "iw_bound"


def _example(subject: Any, inputs: Inputs) -> Any:
    """The posterior of one image, which shows whether there is one and of which family; None without a posterior."""
    with torch.no_grad():
        return subject.given(inputs.test_labels[:1]).posterior(inputs.test[:1].to(inputs.device))


def _bits_per_dim(subject: Any, inputs: Inputs, elbo: Tensor) -> Number:
    if not subject.likelihood.discrete:
        return {"value": None, "reason": "the likelihood is a density, for which bits are not defined"}
    if not bool(subject.likelihood.supports(inputs.test).all()):
        return {"value": None, "reason": "the likelihood is not defined on these images; see data.binarize"}
    return mean_of(metrics.bits_per_dim(-elbo, inputs.test[0].numel()))


def _bound_images(subject: Any, inputs: Inputs) -> int:
    """Number of images for the bound: as set, else as many as ``BOUND_FLOPS`` allows, at least 500."""
    from vaezoo.evaluation.cost import flops_per_image

    if inputs.settings.bound_images is not None:
        return inputs.settings.bound_images
    allowed = BOUND_FLOPS / (inputs.settings.k * max(1, flops_per_image(subject) / 2))
    return max(LEAST_BOUND_IMAGES, int(allowed))


def reconstruction(subject: Any, inputs: Inputs) -> tuple[Numbers, Vectors]:
    """MSE, PSNR, SSIM and MS-SSIM of reconstructions from the posterior mean, and perceptual distances of some."""
    if is_table(inputs.data.image_shape):
        mse = inputs.map_given(subject, lambda seen, x: metrics.mse(x, seen.reconstruct(x)))
        return missing(names_of("reconstruction"), NOT_IMAGES) | {"mse": mean_of(mse)}, {}

    def errors(seen: Any, x: Tensor) -> Tensor:
        decoded = seen.reconstruct(x)
        mse = metrics.mse(x, decoded)
        return torch.stack([mse, metrics.psnr(mse), ssim(x, decoded), ms_ssim(x, decoded)], dim=1)

    found = dict(zip(("mse", "psnr", "ssim", "ms_ssim"), inputs.map_given(subject, errors).T, strict=True))
    numbers = {name: mean_of(values) for name, values in found.items()} | _perceptual(subject, inputs)
    return numbers, {"psnr_of_images": found["psnr"].tolist()}


@torch.no_grad()
def _perceptual(subject: Any, inputs: Inputs) -> Numbers:
    """Perceptual distances of the reconstructions of the first test images."""
    count = inputs.settings.perceptual_images
    images = list(inputs.given(subject, inputs.test[:count], inputs.test_labels[:count]))
    decoded = [(x, seen.reconstruct(x)) for seen, x in images]
    numbers: Numbers = {}
    for name, distance in inputs.distances.items():
        if isinstance(distance, str):
            numbers |= missing([name], distance)
            continue
        values = torch.cat([distance.between(x, y).cpu() for x, y in decoded])
        numbers[name] = mean_of(values, distance=distance.name, features=distance.version)
        if min(inputs.data.image_shape[1:]) < distance.calibrated_side:
            numbers[name]["note"] = f"fitted to judgements of images of {distance.calibrated_side} pixels, not smaller"
    return numbers


# generation and interpolation ----------------------------------------------------------------------------------------


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
        drawn = subject.mixture.sample(count, _seeded(inputs))
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
    drawn = layout.independent_draws(counts, count, _seeded(inputs))
    with torch.no_grad():
        decoded = (subject.decode(subject.codes_at(part.to(inputs.device))) for part in drawn.split(CHUNK))
        fake = inputs.features(extractor, decoded)
    real = inputs.real_features("classifier", "test")
    sizes = {"n": count, "n_real": len(real), "features": extractor.version}
    return {name: {"value": generation.frechet_distance(real, fake), **sizes}}


def _no_prior(subject: Any) -> str:
    fit = "" if subject.index_shape is None else "; to fit one to its indices: vaezoo prior RUN_DIR"
    return f"the model has no prior to draw codes from{fit}"


def _seeded(inputs: Inputs) -> torch.Generator:
    return torch.Generator().manual_seed(inputs.settings.seed)


def _prior_samples(subject: Any, inputs: Inputs, count: int) -> Iterator[Tensor]:
    generator = _seeded(inputs)
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


def interpolation(subject: Any, inputs: Inputs) -> tuple[Numbers, Vectors]:
    """Distances of interpolation midpoints from the test set, and the evenness of the paths."""
    extractor = inputs.extractors["classifier"]
    start, end = inputs.pairs
    codes = inputs.map_given(subject, lambda seen, x: seen.path_code(x))
    middles = {method: path(codes[start], codes[end], 3)[:, 1] for method, path in METHODS.items()}
    numbers: Numbers = {}
    for place, chosen in {"endpoints": codes[start], **middles}.items():
        if isinstance(extractor, str):
            numbers |= missing([f"interpolation_{short}_{place}" for short in ("fd", "kd")], extractor)
        else:
            parts = inputs.given(subject, chosen, inputs.test_labels[start])
            decoded = (seen.decode(seen.project(part)) for seen, part in parts)
            numbers |= _distances_at(inputs, place, extractor, decoded)
    for method in METHODS:
        numbers |= _paces(subject, inputs, method, extractor)
    return numbers, {}


def _distances_at(inputs: Inputs, place: str, extractor: FeatureExtractor, decoded: Iterator[Tensor]) -> Numbers:
    """Distances from the test set of the images decoded at one point of all paths."""
    with torch.no_grad():
        fake = inputs.features(extractor, decoded)
    real = inputs.real_features("classifier", "test")
    n = {"n": len(fake), "n_real": len(real), "features": extractor.version}
    kernel = generation.kernel_distance(real, fake)
    return {
        f"interpolation_fd_{place}": {"value": generation.frechet_distance(real, fake), **n},
        f"interpolation_kd_{place}": {"value": 1e3 * kernel.value, "se": 1e3 * kernel.se, **n},
    }


def _paces(subject: Any, inputs: Inputs, method: str, extractor: FeatureExtractor | str) -> Numbers:
    start, end = (positions[: inputs.settings.paths] for positions in inputs.pairs)
    pixels, features = [], []
    for one, other in zip(start.split(20), end.split(20), strict=True):
        seen = subject.given(inputs.test_labels[one], inputs.test_labels[other])
        ends = (inputs.test[positions].to(inputs.device) for positions in (one, other))
        images = seen.interpolate(*ends, steps=inputs.settings.steps, method=method)
        pixels.append(paths.step_ratio(images.cpu()))
        if not isinstance(extractor, str):
            extracted = extractor.extract(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            features.append(paths.step_ratio(extracted))
    steps = {"steps": inputs.settings.steps}
    numbers = {f"step_ratio_pixels_{method}": mean_of(torch.cat(pixels), **steps)}
    if isinstance(extractor, str):
        return numbers | missing([f"step_ratio_features_{method}"], extractor)
    return numbers | {f"step_ratio_features_{method}": mean_of(torch.cat(features), **steps)}


# latent space --------------------------------------------------------------------------------------------------------


def latent_space(subject: Any, inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> tuple[Numbers, Vectors]:
    """Active units, the decomposition of the average KL, in nats, usage of codebooks, and the accuracy of probes."""
    numbers, vectors = _posterior_statistics(subject, inputs, test_codes)
    vectors |= _by_depth(subject, inputs) | _spread_of_channels(subject, test_codes)
    numbers |= _moments_kl(subject, inputs, test_codes)
    return numbers | _codebooks(subject, inputs) | probed(inputs, train_codes, test_codes), vectors


def _posterior_statistics(subject: Any, inputs: Inputs, codes: Tensor) -> tuple[Numbers, Vectors]:
    names = ["mutual_information", "total_correlation", "dimensionwise_kl", "aggregate_kl"]
    example = _example(subject, inputs)
    if example is None:
        return missing(["active_units", *names], NO_POSTERIOR), {}
    variance = codes.double().var(0, correction=0)
    numbers: Numbers = {"active_units": {"value": int(metrics.active_units(variance)), "n": len(codes)}}
    vectors = {"variance_of_means": variance.tolist()}
    if not hasattr(example, "log_prob"):
        return numbers | missing(names, "the posterior has no density of given codes"), vectors
    if not isinstance(example, tuple):
        return numbers | missing(names, "scoring a code under the posterior of another image takes networks"), vectors
    posterior, prior = _posterior_of(subject, inputs), subject.prior().to(torch.device("cpu"))
    parts = latent.decompose(posterior, prior, generator=_seeded(inputs))
    reasons = {
        "total_correlation": "the dimensions of the posterior are not independent",
        "dimensionwise_kl": "the dimensions of the posterior or of the prior are not independent",
    }
    for name in names:
        if getattr(parts, name) is None:
            numbers |= missing([name], reasons[name])
            continue
        sizes = {"se": parts.standard_errors[name], "n": parts.n, "samples": parts.samples}
        numbers[name] = {"value": getattr(parts, name), **sizes}
        if parts.saturated:
            numbers[name]["note"] = f"mutual information is at its limit of log n = {math.log(parts.n):.2f} nats"
    return numbers, vectors


def _moments_kl(subject: Any, inputs: Inputs, codes: Tensor) -> Numbers:
    """How far the Gaussian with the codes' moments is from N(0, I)."""
    name, example = "moments_kl", _example(subject, inputs)
    if subject.index_shape is not None or subject.is_spherical:
        return missing([name], "the codes are not a Gaussian's: they are discrete, or on a sphere")
    if example is not None and example.moments() is None:
        return missing([name], "the dimensions of the posterior are not independent Gaussians")
    if codes.shape[1] > MOST_MOMENTS:
        return missing([name], f"codes have more than {MOST_MOMENTS:,} dimensions")
    variance = None
    if example is not None:
        variance = inputs.map_given(subject, lambda seen, x: seen.posterior(x).moments()[1].exp())
    found = latent.moments_kl(codes, variance)
    if found is None:
        return missing([name], f"the covariance of {len(codes):,} codes of {codes.shape[1]:,} dimensions is singular")
    return {name: {"value": found, "n": len(codes)}}


@torch.no_grad()
def _posterior_of(subject: Any, inputs: Inputs) -> Any:
    """The posteriors of all test images on the CPU, a named tuple of tensors (N, ...)."""
    found = [seen.posterior(x) for seen, x in inputs.chunks(subject)]
    return type(found[0])(*(torch.cat([part.cpu() for part in parts]) for parts in zip(*found, strict=True)))


def _codebooks(subject: Any, inputs: Inputs) -> Numbers:
    """Perplexity and share of used codes, over the whole test set; with several codebooks, their means."""
    names = ["perplexity", "codes_used"]
    if subject.index_shape is None:
        return missing(names, "the codes are not discrete")
    layout, indices = subject.index_layout, inputs.map(subject.indices, inputs.test)
    counts = layout.counts(indices).values()
    positions = [book.positions for book in layout.codebooks]
    scores = {"perplexity": codebooks.perplexity, "codes_used": codebooks.codes_used}
    sizes = {"n": len(indices), "positions": positions, "codes": list(layout.sizes)}
    return {
        name: {"value": sum(float(score(level)) for level in counts) / len(counts), **sizes}
        for name, score in scores.items()
    }


@torch.no_grad()
def _by_depth(subject: Any, inputs: Inputs) -> Vectors:
    """Rate and recon, in nats, and PSNR of the codes of the first level alone, of the first two, ...: (L,) each.

    Nothing for codes whose levels do not refine each other.
    """
    if subject.index_shape is None or subject.partial_codes(subject.indices(inputs.test[:1].to(inputs.device))) is None:
        return {}

    def distortions(x: Tensor) -> Tensor:
        codes = subject.partial_codes(subject.indices(x))
        each = [(subject.nll(x, code), metrics.psnr(metrics.mse(x, subject.decode(code)))) for code in codes]
        return torch.stack([torch.stack(pair) for pair in each]).movedim(-1, 0)

    recon, psnr = inputs.map(distortions, inputs.test).double().mean(0).T.tolist()
    rates = list(accumulate(subject.index_layout.rates()))
    return {"rate_at_depth": rates, "recon_at_depth": recon, "psnr_at_depth": psnr}


def _spread_of_channels(subject: Any, codes: Tensor) -> Vectors:
    """Standard deviation of each channel of continuous spatial codes (N, D), over images and positions: (C,).

    A model of the codes is trained on codes divided by it; latent diffusion models call its inverse ``scaling_factor``.
    Nothing for other codes.
    """
    if subject.index_shape is not None or len(subject.code_shape) == 1:
        return {}
    channels = codes.double().unflatten(1, subject.code_shape).movedim(1, 0).flatten(1)
    return {"code_std": channels.std(1, correction=0).tolist()}


def probed(inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Accuracy of a linear probe and of nearest neighbours from codes (N, D) to labels."""
    names = ["probe_accuracy", "knn_accuracy"]
    if not inputs.labelled:
        return missing(names, f"{inputs.data.name} has no labels")
    labels = (inputs.train_labels[: len(train_codes)], inputs.test_labels[: len(test_codes)])
    factors = [factor.name for factor in inputs.data.factors]
    arguments = (train_codes, labels[0], test_codes, labels[1])
    numbers: Numbers = {}
    for name, probe in zip(names, (probes.linear_probe, probes.knn_probe), strict=True):
        found = probe(*arguments, seed=inputs.settings.seed, factors=factors)
        numbers[name] = {"value": found.value, "se": found.standard_error, "n": found.n_test}
        numbers[name] |= {"n_train": found.n_train, "majority": found.majority}
        if found.of_factors:
            numbers[name]["of_factors"] = found.of_factors
    return numbers


def disentanglement(inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> Numbers:
    """Disentanglement scores from codes (N, D), for data with known factors."""
    names = names_of("disentanglement")
    if not inputs.data.has_known_factors:
        return missing(names, f"the factors behind {inputs.data.name} are not known")
    if not inputs.settings.disentanglement:
        return missing(names, "left out of this evaluation; see vaezoo evaluate")
    labels = (inputs.train_labels[: len(train_codes)], inputs.test_labels[: len(test_codes)])
    settings = inputs.settings
    sizes = Sizes(train=settings.train_images, dci_train=settings.dci_train)
    arrays = (train_codes.numpy(), labels[0].numpy(), test_codes.numpy(), labels[1].numpy())
    names_of_factors = [factor.name for factor in inputs.data.factors]
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
