"""The model card of a hub: README.md with metadata, metrics with intervals, data, command, pictures and limits."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaezoo.commands.export.training_command import training_command
from vaezoo.config.errors import DataError, printable
from vaezoo.config.extras import need
from vaezoo.config.shapes import is_table
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models import Autoencoder
from vaezoo.models.loading import Run
from vaezoo.training.callbacks.images import Interpolations, Reconstructions, Samples
from vaezoo.training.callbacks.pictures import Picture

README = "README.md"

SHOWN = (
    *("elbo", "elbo_prior", "iw_bound", "elbo_given_label", "iw_bound_given_label", "recon", "kl", "bits_per_dim"),
    *("mse", "psnr", "ssim", "perceptual_lite0", "lpips", "reconstruction_fd_inception", "prior_fd_inception"),
    *("active_units", "perplexity", "codes_used", "probe_accuracy", "knn_accuracy"),
)
"""Metrics of the table, in this order."""

NORMAL = 1.96
"""Standard errors to each side of a 95% interval."""


class Number(NamedTuple):
    """A metric on the test split, the half-width of its 95% interval, None where there is none, and its images."""

    value: float
    half: float | None
    images: int | None


Measured = dict[str, Number]
"""Metrics by name."""


def write_readme(folder: Path, run: Run, model: Autoencoder, card: Mapping[str, Any], weights: str) -> None:
    """Write README.md for the files of an export into their folder; ConfigError without the extra ``hub``."""
    summary, measured = run.summary, _measured(run)
    name = f"{type(model).__name__} on {_data(summary).get('name')}"
    pictures = draw(folder, run, model)
    parts = (
        f"---\n{_metadata(name, model, summary, measured, card['licence'])}\n---",
        f"# {name}",
        _about(model, summary),
        _use(model, weights),
        _metrics(run, measured),
        *([_pictures(pictures)] if pictures else []),
        _training(run, summary),
        "\n".join(["## Limits\n", *(f"- {limit}" for limit in limits(run, model))]),
    )
    (folder / README).write_text("\n\n".join(part.rstrip() for part in parts) + "\n")


def _data(summary: Mapping[str, Any]) -> dict[str, Any]:
    return summary.get("data") or {}


def _metadata(
    name: str, model: Autoencoder, summary: Mapping[str, Any], measured: Measured, licence: str | None
) -> str:
    """The head of the card, by which a hub finds and lists it, as YAML."""
    hub, data = need("huggingface_hub", "hub"), _data(summary).get("name")
    task, result = "image-feature-extraction", "image-to-image"
    if is_table(_data(summary).get("image_shape") or ()):
        task = result = "feature-extraction"
    results = [
        hub.EvalResult(result, data, data, metric, round(value, 6), dataset_split="test")
        for metric, (value, *_) in measured.items()
    ]
    metadata = hub.ModelCardData(
        library_name="vaezoo",
        license=None if licence is None else licence.lower(),
        pipeline_tag=task,
        tags=["autoencoder", "vaezoo", type(model).__name__.lower()],
        model_name=name,
        eval_results=results,
    )
    return str(metadata.to_yaml())


def _about(model: Autoencoder, summary: Mapping[str, Any]) -> str:
    channels, height, width = model.image_shape
    code = f"{model.latent_dim:,} numbers"
    code = code if len(model.code_shape) == 1 else f"{'x'.join(map(str, model.code_shape))} = {code}"
    kind = f"images | {height}x{width}, {'grey' if channels == 1 else 'colour'}, pixels in [0, 1]"
    if is_table(model.image_shape):
        kind = f"rows of a table | {width:,} columns, standardised by the mean and std in the card"
    return (
        f"{(type(model).__doc__ or '').strip().splitlines()[0]}\n\n"
        "| | |\n|---|---|\n"
        f"| {kind} |\n"
        f"| code | {code}{'' if model.index_shape is None else ', discrete'} |\n"
        f"| network | {summary.get('network')}, {summary.get('parameters', 0):,} parameters |\n"
        f"| likelihood | {summary.get('likelihood')} |\n"
        f"| minimised | {summary.get('objective')} |"
    )


def _use(model: Autoencoder, weights: str) -> str:
    seen, note = "model", ""
    if model.is_conditional:
        seen, note = "model.given(labels)", f"; labels (B,) from 0 to {(model.classes or 1) - 1}"
    sample = "" if model.prior() is None else "new = model.sample(16)  # (16, C, H, W)\n"
    of_table = is_table(model.image_shape)
    what = f"(B, 1, 1, {model.pixels}), standardised" if of_table else "(B, C, H, W) in [0, 1]"
    files, images = ("Tables are", "FILE.csv") if of_table else ("Files are", "FOLDER")
    return (
        "## Use\n\n```python\nimport vaezoo\n\n"
        f'model = vaezoo.load("{weights}")  # or vaezoo.load("hf://OWNER/NAME")\n'
        f"code = {seen}.encode(x)  # x float32 {what}{note}\n"
        f"again = {seen}.decode(code)\n{sample}```\n\n"
        f"{files} encoded with `vaezoo encode {weights} images={images} out=codes.csv`. The weights are safetensors,"
        " and their card is JSON: loading them executes no code of this repository."
    )


def _measured(run: Run) -> Measured:
    """From the run's evaluation, or else from the test at the end of its training, which has no intervals."""
    evaluation = run.evaluation
    if evaluation is None:
        test, count = run.summary.get("test") or {}, _data(run.summary).get("test")
        return {name: Number(test[name], None, count) for name in SHOWN if test.get(name) is not None}
    found = {name: evaluation["metrics"].get(name, {}) for name in SHOWN}
    return {
        name: Number(each["value"], NORMAL * each["se"] if each.get("se") is not None else None, each.get("n"))
        for name, each in found.items()
        if each.get("value") is not None
    }


def _metrics(run: Run, measured: Measured) -> str:
    rows = [
        f"| {name} {CATALOGUE[name].arrow} | {_number(*found[:2])} | {CATALOGUE[name].unit} | {found.images or ''} |"
        f" {CATALOGUE[name].text} |".replace("p(x|z)", "p(x\\|z)")
        for name, found in measured.items()
    ]
    what = "On test images, with 95% intervals over these"
    if run.evaluation is None:
        what = "On test images, as measured at the end of training, without intervals"
    head = "| metric | value | unit | images | meaning |\n|---|---|---|---|---|"
    what += ". They are of one training: another seed gives other values.\n"
    return "\n".join(["## Metrics\n", what, head, *rows])


def _number(value: float, half: float | None) -> str:
    if half is None:
        return f"{value:.4g}"
    from vaezoo.comparison.statistics import figures

    return f"{figures(value, half)} ± {figures(half, half)}" if half else f"{value:.4g}"


def _training(run: Run, summary: Mapping[str, Any]) -> str:
    data, environment = _data(summary), summary.get("environment") or {}
    command = training_command(run.config)
    sizes = ", ".join(f"{data.get(split, 0):,} {split}" for split in ("train", "val", "test"))
    prepared = f"fit={data.get('fit')}, range={data.get('range')}, binarize={data.get('binarize')}"
    kind = "images"
    if is_table(data.get("image_shape") or ()):
        kind, prepared = "rows", "each column is standardised by the training split"
    text = (
        f"## Data and training\n\n{data.get('name')}: {sizes} {kind}, split by seed {data.get('split_seed')};"
        f" {prepared}."
        f" {summary.get('steps', 0):,} optimiser steps in {summary.get('epochs', 0):,} epochs with seed"
        f" {summary.get('seed')}, by vaezoo {environment.get('vaezoo')} (commit {environment.get('commit')}) with torch"
        f" {environment.get('torch')} on {environment.get('device_name') or environment.get('device')}."
    )
    return text if command is None else f"{text}\n\n```bash\n{command}\n```"


def limits(run: Run, model: Autoencoder) -> Iterator[str]:
    """What the model is not for, in sentences, by what is known of it."""
    summary, (_, height, width) = run.summary, model.image_shape
    data = _data(summary)
    of_table = is_table(model.image_shape)
    seen = f"rows of {data.get('name')}" if of_table else f"images of {data.get('name')} at {height}x{width} pixels"
    yield (
        f"It was trained on {data.get('train', 0):,} {seen} alone; what it makes of other {seen.split()[0]} is not"
        " known."
    )
    if data.get("leave_out"):
        yield f"It has seen no images of the classes {data['leave_out']}, which are among the test images."
    if summary.get("status") != "finished":
        yield f"Its training is not finished: the run is {summary.get('status')}."
    yield (
        "Bounds and `recon` compare only with those of models with the same likelihood on the same images, prepared in"
        " the same way."
    )
    if "elbo" in (summary.get("test") or {}):
        yield (
            "A high likelihood does not mean that an image is like those of training: simple images often have higher"
            " ones."
        )
    if model.prior() is None:
        yield "It has no prior: what is drawn from it comes from a distribution fitted to its codes afterwards."
    if not of_table:
        yield "Images that it decodes are those of its training data in kind, and share their biases."


def draw(folder: Path, run: Run, model: Autoencoder) -> list[str]:
    """Write the pictures of the card, by their figures in training; none of images that are not on this machine."""
    from PIL import Image

    from vaezoo.figures import raster

    kinds: list[Picture] = [Reconstructions(count=10), Samples(count=32), Interpolations(pairs=2)]
    written, data = [], run.data()
    if is_table(model.image_shape):
        return []
    try:
        data.prepare_data()
        data.setup()
    except DataError as error:
        print(printable(f"note: no pictures in the card, because {error}"))
        return []
    for kind in kinds:
        with torch.no_grad():
            figure = kind.figure(model, data)
        if figure is not None:
            Image.fromarray(raster(figure)).save(folder / f"{kind.name}.png")
            written.append(kind.name)
    return written


def _pictures(names: list[str]) -> str:
    shown = "\n\n".join(f"![{name.capitalize()}]({name}.png)" for name in names)
    return f"## Pictures\n\n{shown}"
