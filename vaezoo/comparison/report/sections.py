"""Chapters of charts: latent maps, rate and distortion, KL per dimension, training, cost."""

from dataclasses import replace
from pathlib import Path

from vaezoo.comparison import Group
from vaezoo.comparison.report import charts, curves, maps, strips
from vaezoo.comparison.report.drawing import Panel
from vaezoo.comparison.report.model_outputs import Images
from vaezoo.comparison.report.pictures import Models, Picture
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.training.callbacks.latents import labels_of


def latent_maps(images: Images, models: Models, prefix: str, out: Path) -> Picture:
    """Codes of the same test images by model, and the decoded plane of two-dimensional codes."""
    labels = labels_of(images.labels[: len(models[0][2].codes)], images.factors)
    known = bool(labels.known)
    picture = Picture(
        "Where the encoder puts the same test images",
        "Each dot is one image" + (", coloured by its label" if known else "; the data have no labels")
        + ". The dashed circle is two standard deviations of the prior (without a prior, of N(0,\u00a0I)) and contains"
        " 86% of its draws; crosses are draws of a prior that is no Gaussian. Ellipses are two standard deviations of"
        " posteriors, fewer where they would hide the dots. A plain autoencoder places codes anywhere and leaves gaps;"
        " the KL of a VAE pulls them towards the prior and spreads each over an ellipse, so that draws from the prior"
        " decode to images. Note the different axes: each map has its own scale.",
        above=[f"{labels.name(value)}|{tint}" for value, tint in labels.palette().items()] if labels.few else [],
    )  # fmt: skip
    for index, seed_group, outputs in models:
        name = f"{prefix}latent-map-{index}"
        picture.panels.append(replace(maps.latent_map(outputs, labels, seed_group.label, name, out), index=index))
        if outputs.decoded is not None:
            picture.images[name] = strips.data_uri((outputs.decoded * 255).round().clip(0, 255).astype("uint8"))
            plane = strips.plane(outputs.decoded, f"Decoded plane of {seed_group.label}")
            strips.save(plane, out / f"{prefix}decoded-plane-{index}")
    if picture.images:
        picture.how_to_read += " Below the map of a two-dimensional code is the decoder's output over the same square."
        if given := [f"{seed_group.label}: {outputs.label}" for _, seed_group, outputs in models if outputs.label]:
            picture.how_to_read += f" Decoded given a label: {', '.join(given)}."
    return picture


def rate_distortion(group: Group, prefix: str, out: Path) -> Picture:
    """One rate-distortion plane per likelihood."""
    panels = []
    for at, (likelihood, seed_groups) in enumerate(group.likelihoods.items()):
        indices = [group.seed_groups.index(seed_group) for seed_group in seed_groups]
        if any(seed_group.values("recon") for seed_group in seed_groups):
            title = f"Rate and distortion, {likelihood}"
            panels.append(charts.rate_distortion(seed_groups, indices, f"{prefix}rate-distortion-{at + 1}", title, out))
    return Picture(
        "Rate and distortion",
        "Further right, codes carry more information about an image; further down, images are reconstructed better."
        " Along a dotted line the ELBO is the same, so a model below another's dotted line has the better ELBO. Models"
        " that differ in one setting only are joined, and a model without KL is a dashed line. A line of dots of one"
        " model is what the first level of its codes gives alone, the first two, and so on.",
        panels,
    )


def kl_by_dimension(models: Models, prefix: str, out: Path) -> Picture:
    """Sorted KL per latent dimension of every model that has one."""
    having = [
        (index, seed_group.label, outputs.kl.mean(0).numpy())
        for index, seed_group, outputs in models
        if outputs.kl is not None
    ]
    most = max((float(kl.max()) for _, _, kl in having), default=1.0)
    panels = [
        charts.kl_of_dimensions(kl, index, label, most, f"{prefix}kl-{index}", out) for index, label, kl in having
    ]
    lacking = [seed_group.label for _, seed_group, outputs in models if outputs.kl is None]
    return Picture(
        "KL of each latent dimension",
        "A tall bar is a dimension that carries much information about the image; one near 0 is unused (collapsed). All"
        " charts have the same scale." + (f" Without a KL of each dimension: {', '.join(lacking)}." if lacking else ""),
        panels,
    )


def training(group: Group, prefix: str, out: Path, untimed: str = "") -> Picture:
    """Recon, KL and −ELBO by step and by time, one line per run.

    ``untimed``, if not empty, is the reason why there are no charts by time.
    """
    runs, bounds = [], []
    for at, seed_group in enumerate(group.seed_groups):
        for record in seed_group.records:
            runs.append((at, seed_group.label, curves.read(record.path)))
            if not seed_group.given_label or all(other.given_label for other in group.seed_groups):
                bounds.append(runs[-1])
    panels: list[Panel | None] = []
    for by_clock, word in ((False, "step"),) if untimed else ((False, "step"), (True, "time")):
        for quantity, title in (("recon", "recon"), ("kl", "KL"), ("-elbo", "−ELBO")):
            name, shown = f"{prefix}training-{quantity.strip('-')}-by-{word}", bounds if quantity == "-elbo" else runs
            panels.append(charts.curves(shown, quantity, f"{title} by {word}", name, out, by_clock=by_clock))
    timed = f" There are no charts by time, because {untimed}." if untimed else ""
    if not untimed and not all(run.clock for *_, run in runs):
        timed = " Runs without TensorBoard files are missing from charts by time."
    apart = " Likelihoods differ: compare only lines of the same one." if len(group.likelihoods) > 1 else ""
    apart += (
        " Models that are given the label have another ELBO, which is not shown." if len(bounds) < len(runs) else ""
    )
    return Picture(
        "Training",
        "One solid line per run on validation images, dashed on training images. A dashed line that keeps falling while"
        " the solid one rises shows overfitting." + apart + timed,
        [found for found in panels if found is not None],
    )


QUALITIES = ("elbo", "elbo_given_label", "psnr", "prior_fd_classifier", "mixture_fd_classifier", "probe_accuracy")


def cost(group: Group, prefix: str, out: Path, untimed: str = "") -> Picture:
    """Quality metrics against cost; ``untimed``, if not empty, is the reason why seconds are not comparable."""
    panels = []
    for against in ("flops_per_image",) if untimed else ("seconds", "flops_per_image"):
        for quality in QUALITIES:
            parts = group.likelihoods if CATALOGUE[quality].section == "likelihood" else {"": group.seed_groups}
            for at, seed_groups in enumerate(parts.values()):
                if any(v.values(against) and v.values(quality) for v in seed_groups):
                    indices = [group.seed_groups.index(seed_group) for seed_group in seed_groups]
                    name = f"{prefix}cost-{quality}-{against}-{at + 1}"
                    panels.append(charts.cost(seed_groups, indices, against, quality, name, out))
    times = f"Cost is in FLOPs and not in seconds, because {untimed}." if untimed else (
        "Times are comparable only between runs that each had the same machine to themselves."
    )  # fmt: skip
    return Picture(
        "Quality and cost",
        "Each mark is one run; the arrow in a title shows the better direction, and cheaper runs are further left. "
        + times,
        panels,
    )
