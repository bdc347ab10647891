"""A run's best weights, measured: all sections one after another, and the reference rows. It knows no variant."""

from collections.abc import Callable
from typing import Any

from vaezoo.data import ImageDataModule
from vaezoo.evaluation import references, sections
from vaezoo.evaluation.cost import code_bits, flops_per_image, parameters
from vaezoo.evaluation.inputs import Material
from vaezoo.evaluation.sections import Numbers, Vectors
from vaezoo.evaluation.settings import FULL, Settings
from vaezoo.runs import environment

SCHEMA = 1
"""Raise it whenever a number of the same name comes to mean something else."""

SECTIONS = ("codes", "likelihood", "reconstruction", "generation", "interpolation", "latent space", "disentanglement")

Report = Callable[[str], None]


def count_steps(settings: Settings, data: ImageDataModule) -> int:
    """How often ``report`` will be called."""
    return len(SECTIONS) + (2 + data.has_known_factors if settings.references else 0)


def evaluate(
    model: Any, data: ImageDataModule, settings: Settings = FULL, report: Report = lambda _: None
) -> dict[str, Any]:
    """All numbers of a model on a data set: what ``evaluation.json`` holds, but for the run's own records.

    ``model`` is in evaluation mode, on the device to compute on; ``report`` is told what is measured next. Raises
    DataError without images.
    """
    material = Material(data, settings, model.device)
    numbers, vectors = evaluate_model(model, material, report)
    return {
        "schema": SCHEMA,
        "settings": settings.as_dict(),
        "metrics": numbers,
        "vectors": vectors,
        "references": _references(model, material, report) if settings.references else {},
        "classifier": _describe_classifier(material),
        "data": material.data.describe(),
        "likelihood": model.hparams["likelihood"],
        "environment": environment.describe(model.device),
    }


def evaluate_model(model: Any, material: Material, report: Report = lambda _: None) -> tuple[Numbers, Vectors]:
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


def _references(model: Any, material: Material, report: Report) -> dict[str, Any]:
    """Rows that no training made; see ``vaezoo.evaluation.references``."""
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


def _pca(model: Any, material: Material) -> Numbers:
    """PCA with as many components as the model has latent dimensions, fitted to the training images at hand."""
    pca = references.PCA(material.train, model.latent_dim).to(material.device).eval()
    train_codes, test_codes = (material.map(pca.encode, images) for images in (material.train, material.test))
    numbers = sections.reconstruction(pca, material)[0]
    numbers |= sections.generated(pca, material, train_codes)[0]
    numbers |= sections.interpolation(pca, material)[0]
    numbers |= sections.probed(material, train_codes, test_codes)
    numbers |= sections.disentanglement(material, train_codes, test_codes)
    if model.likelihood.is_gaussian:
        exact = material.map(pca.log_likelihood_of_images, material.test)
        numbers["log_likelihood"] = sections.mean_of(exact)
    return numbers | {"code_bits": {"value": code_bits(pca)}}
