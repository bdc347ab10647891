"""Midpoints and evenness of paths between test images."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vaezoo.evaluation.features import FeatureExtractor
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.sections.numbers import Numbers, Vectors, mean_of, missing
from vaezoo.metrics import generation, paths
from vaezoo.nn.interpolation import METHODS


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
