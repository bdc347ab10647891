"""Errors of reconstructions."""

from typing import Any

import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.config.shapes import NOT_IMAGES, is_table
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.sections.numbers import Numbers, Vectors, mean_of, missing, names_of
from vaezoo.metrics.images import ms_ssim, ssim


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
