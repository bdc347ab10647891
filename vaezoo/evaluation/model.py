"""Evaluates a model: all sections of metrics, and the reference rows."""

from collections.abc import Callable
from typing import Any

from vaezoo.data import ImageDataModule
from vaezoo.evaluation import references, sections
from vaezoo.evaluation.cost import count_parameters, flops_per_image
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.sections import Numbers, Vectors
from vaezoo.evaluation.settings import FULL, Settings
from vaezoo.runs import environment

SCHEMA = 1
"""Version of evaluation.json; increase it whenever the meaning of a metric changes."""

SECTIONS = (
    *("codes", "likelihood", "reconstruction", "generation", "interpolation", "latent space", "disentanglement"),
    "anomalies",
)

Report = Callable[[str], None]


def count_steps(settings: Settings, data: ImageDataModule) -> int:
    """Number of calls of ``report`` by ``evaluate``."""
    return len(SECTIONS) + (2 + data.has_known_factors if settings.references else 0)


def evaluate(
    model: Any,
    data: ImageDataModule,
    settings: Settings = FULL,
    report: Report = lambda _: None,
    *,
    lpips_backbone: str | None = None,
) -> dict[str, Any]:
    """All metrics of a model on a data set: the content of ``evaluation.json``, except what the run itself recorded.

    ``model`` must be in evaluation mode, on the device to compute on; ``report`` is called with the name of each step.
    ``lpips_backbone`` is a file with torchvision's weights of AlexNet or VGG16; None for torch's own folder.
    Raises DataError if there are too few images.
    """
    inputs = Inputs(data, settings, model.device, lpips_backbone)
    numbers, vectors = evaluate_model(model, inputs, report)
    return {
        "schema": SCHEMA,
        "settings": settings.as_dict(),
        "metrics": numbers,
        "vectors": vectors,
        "references": _references(model, inputs, report) if settings.references else {},
        "classifier": _describe_classifier(inputs),
        "data": inputs.data.describe(),
        "likelihood": model.hparams["likelihood"],
        "environment": environment.describe(model.device),
    }


def evaluate_model(model: Any, inputs: Inputs, report: Report = lambda _: None) -> tuple[Numbers, Vectors]:
    """All metrics of the model alone, without references; metrics that are not defined are None with a reason."""
    report(SECTIONS[0])
    train_codes, test_codes = inputs.encode(model, "train"), inputs.encode(model)
    steps: tuple[Callable[[], tuple[Numbers, Vectors]], ...] = (
        lambda: sections.likelihood(model, inputs),
        lambda: sections.reconstruction(model, inputs),
        lambda: sections.generated(model, inputs, train_codes),
        lambda: sections.interpolation(model, inputs),
        lambda: sections.latent_space(model, inputs, train_codes, test_codes),
        lambda: (sections.disentanglement(inputs, train_codes, test_codes), {}),
        lambda: (sections.anomalies(model, inputs, train_codes), {}),
    )
    numbers, vectors = _run_steps(dict(zip(SECTIONS[1:], steps, strict=True)), report)
    return numbers | _static_cost(model), vectors


def _run_steps(steps: dict[str, Callable[[], tuple[Numbers, Vectors]]], report: Report) -> tuple[Numbers, Vectors]:
    numbers: Numbers = {}
    vectors: Vectors = {}
    for name, step in steps.items():
        report(name)
        found, lists = step()
        numbers |= found
        vectors |= lists
    return numbers, vectors


def _static_cost(model: Any) -> Numbers:
    """Parameters, FLOPs and bits per code."""
    found = {
        "parameters": count_parameters(model),
        "flops_per_image": flops_per_image(model),
        "code_bits": model.code_bits,
    }
    return {name: {"value": value} for name, value in found.items()}


def _describe_classifier(inputs: Inputs) -> dict[str, Any]:
    extractor = inputs.extractors["classifier"]
    if isinstance(extractor, str):
        return {"reason": extractor}
    return {"version": extractor.version, "accuracy": extractor.accuracy}


def _references(model: Any, inputs: Inputs, report: Report) -> dict[str, Any]:
    """Metrics of the references: PCA, an untrained encoder and, if known, the factors."""
    rows: dict[str, Any] = {}
    report("reference: PCA")
    rows["pca"] = {"metrics": _pca(model, inputs)}
    report("reference: untrained")
    fresh = references.untrained(model, seed=inputs.settings.seed)
    codes = [inputs.encode(fresh, split) for split in ("train", "test")]
    rows["untrained"] = {"metrics": sections.probed(inputs, *codes) | sections.disentanglement(inputs, *codes)}
    if inputs.data.has_known_factors:
        report("reference: factors")
        labels = (inputs.train_labels, inputs.test_labels)
        ceiling = [references.factor_codes(part, inputs.data.factors) for part in labels]
        rows["factors"] = {"metrics": sections.probed(inputs, *ceiling) | sections.disentanglement(inputs, *ceiling)}
    return rows


def _pca(model: Any, inputs: Inputs) -> Numbers:
    """Metrics of PCA, fitted to the training images, with as many components as numbers determine a model's code."""
    pca = references.PCA(inputs.train, model.manifold_dim).to(inputs.device).eval()
    train_codes, test_codes = (inputs.map(pca.encode, images) for images in (inputs.train, inputs.test))
    numbers = sections.reconstruction(pca, inputs)[0]
    numbers |= sections.generated(pca, inputs, train_codes)[0]
    numbers |= sections.interpolation(pca, inputs)[0]
    numbers |= sections.probed(inputs, train_codes, test_codes)
    numbers |= sections.disentanglement(inputs, train_codes, test_codes)
    if model.likelihood.is_gaussian:
        exact = inputs.map(pca.log_likelihood_of_images, inputs.test)
        numbers["log_likelihood"] = sections.mean_of(exact)
    return numbers | {"code_bits": {"value": pca.code_bits}}
