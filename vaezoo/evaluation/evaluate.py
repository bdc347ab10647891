"""A run's best weights, measured: all sections one after another, and the reference rows. It knows no variant."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vaezoo import environment, references
from vaezoo.cost import code_bits, flops_per_image, parameters
from vaezoo.data import ImageDataModule
from vaezoo.evaluation import sections
from vaezoo.evaluation.material import Material
from vaezoo.evaluation.sections import Numbers, Vectors
from vaezoo.evaluation.settings import FULL, Settings
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models import Autoencoder
from vaezoo.runs import Run

SCHEMA = 1
"""Raise it whenever a number of the same name comes to mean something else."""

SECTIONS = ("codes", "likelihood", "reconstruction", "generation", "interpolation", "latent space", "disentanglement")

Report = Callable[[str], None]


def count_steps(settings: Settings, data: ImageDataModule) -> int:
    """How often ``report`` will be called."""
    return len(SECTIONS) + (2 + data.has_known_factors if settings.references else 0)


def evaluate_run(
    run: Run,
    settings: Settings = FULL,
    *,
    data: ImageDataModule | None = None,
    packages: Sequence[str] = ("vaezoo",),
    device: torch.device | None = None,
    report: Report = lambda _: None,
) -> dict[str, Any]:
    """What ``evaluation.json`` holds of a run; ``report`` is told what is measured next.

    ``packages`` are those whose models may be made (see ``vaezoo.load``).
    ``data`` stands in for the data set of the run's config, for one that lies elsewhere on this machine. Raises
    RunError without a readable checkpoint, DataError without images.
    """
    started = time.perf_counter()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
        model = run.model(packages=packages).to(device)
    material = Material(data or run.data(packages=packages), settings, device)
    numbers, vectors = evaluate_model(model, material, report)
    booked = run.summary.get("cost", {}).items()  # of which some is of interest within a run alone
    cost = {name: {"value": value} for name, value in booked if name in CATALOGUE}
    found = {
        "schema": SCHEMA,
        "settings": settings.as_dict(),
        "metrics": numbers | cost,
        "vectors": vectors,
        "references": _references(model, material, report) if settings.references else {},
        "classifier": _describe_classifier(material),
        "data": material.data.describe(),
        "likelihood": model.hparams["likelihood"],
        "checkpoint": run.checkpoint().stem,
        "environment": environment.describe(device),
    }
    return found | {"seconds": time.perf_counter() - started}


def evaluate_model(model: Autoencoder, material: Material, report: Report = lambda _: None) -> tuple[Numbers, Vectors]:
    """Every number of the catalogue that a model can have by itself; None with a reason for the others."""
    report(SECTIONS[0])
    train_codes = material.map(model.encode, material.train)
    test_codes = material.map(model.encode, material.test)
    steps: tuple[Callable[[], tuple[Numbers, Vectors]], ...] = (
        lambda: sections.likelihood(model, material),
        lambda: sections.reconstruction(model, material),
        lambda: sections.generated(model, material, train_codes),
        lambda: sections.interpolation(model, material),
        lambda: sections.latent_space(model, material, train_codes, test_codes),
        lambda: (sections.disentanglement(material, train_codes, test_codes), {}),
    )
    numbers, vectors = _in_turn(dict(zip(SECTIONS[1:], steps, strict=True)), report)
    return numbers | _build(model), vectors


def _in_turn(steps: dict[str, Callable[[], tuple[Numbers, Vectors]]], report: Report) -> tuple[Numbers, Vectors]:
    numbers: Numbers = {}
    vectors: Vectors = {}
    for name, step in steps.items():
        report(name)
        found, lists = step()
        numbers |= found
        vectors |= lists
    return numbers, vectors


def _build(model: Any) -> Numbers:
    """What a model costs by its build."""
    found = {"parameters": parameters(model), "flops_per_image": flops_per_image(model), "code_bits": code_bits(model)}
    return {name: {"value": value} for name, value in found.items()}


def _describe_classifier(material: Material) -> dict[str, Any]:
    extractor = material.extractors["classifier"]
    if isinstance(extractor, str):
        return {"reason": extractor}
    return {"version": extractor.version, "accuracy": extractor.accuracy}


def _references(model: Autoencoder, material: Material, report: Report) -> dict[str, Any]:
    """Rows that no training made; see ``vaezoo.references``."""
    rows: dict[str, Any] = {}
    report("reference: PCA")
    rows["pca"] = {"metrics": _pca(model, material)}
    report("reference: untrained")
    fresh = references.untrained(model, seed=material.settings.seed)
    codes = [material.map(fresh.encode, images) for images in (material.train, material.test)]
    rows["untrained"] = {"metrics": sections.probed(material, *codes) | sections.disentanglement(material, *codes)}
    if material.data.has_known_factors:
        report("reference: factors")
        labels = (material.train_labels, material.test_labels)
        ceiling = [references.factor_codes(part, material.data.factors) for part in labels]
        rows["factors"] = {
            "metrics": sections.probed(material, *ceiling) | sections.disentanglement(material, *ceiling)
        }
    return rows


def _pca(model: Autoencoder, material: Material) -> Numbers:
    """PCA with as many components as the model has latent dimensions, fitted to the training images at hand."""
    pca = references.PCA(material.train, model.latent_dim).to(material.device).eval()
    train_codes, test_codes = (material.map(pca.encode, images) for images in (material.train, material.test))
    numbers = sections.reconstruction(pca, material)[0]
    numbers |= sections.generated(pca, material, train_codes)[0]
    numbers |= sections.interpolation(pca, material)[0]
    numbers |= sections.probed(material, train_codes, test_codes)
    numbers |= sections.disentanglement(material, train_codes, test_codes)
    if model.hparams["likelihood"] in ("gaussian", "learned_gaussian"):
        exact = material.map(pca.log_likelihood_of_images, material.test)
        numbers["log_likelihood"] = sections.mean_of(exact)
    return numbers | {"code_bits": {"value": code_bits(pca)}}
