"""Writes and checks the files of an export: weights, programs and the model card."""

from pathlib import Path
from typing import Any

import torch

from vaezoo.commands.export import readme
from vaezoo.commands.export.request import Request
from vaezoo.config.reading import plain
from vaezoo.config.shapes import is_table
from vaezoo.evaluation.cost import count_parameters
from vaezoo.models import Autoencoder, model_card, program_checks, programs
from vaezoo.models.loading import Run, load_exported
from vaezoo.runs import environment

FROM_SUMMARY = ("objective", "likelihood", "network", "seed", "epochs", "steps", "status")
TOOLS = ("safetensors", "onnx", "onnxscript", "onnxruntime")


def write_all(run: Run, request: Request, folder: Path) -> dict[str, Any]:
    """Write and check all files in ``folder``, print the results, and return the card."""
    path = run.checkpoint(request.checkpoint)
    model, _ = run.model_at_step(path.stem, packages=request.packages)
    images, labels, which = program_checks.images_for(model, run.data(packages=request.packages, root=request.root))
    name, checked = request.out.name, dict[str, float]()
    stored = folder / f"{name}{model_card.SUFFIX}"
    model_card.write_weights(stored, model.state_dict())
    parts = programs.programs(model)
    with torch.no_grad():
        known = (labels,) if model.is_conditional else ()
        inputs = {"encoder": (images, *known), "decoder": (model.given(labels).encode(images), *known)}
    for kind in request.kinds:
        for part, (program, example) in parts.items():
            target = folder / f"{name}.{part}.{programs.KINDS[kind]}"
            programs.write_program(program, example, kind, target)
            back = programs.read_back(kind, target)
            checked[target.name] = program_checks.check_program(program, back, inputs[part], target)
    card = _card(run, request, model, path.stem, parts) | {
        "checked": {"on": which, "tolerance": program_checks.TOLERANCE, "max_difference": checked},
        "files": {each.name: _described(each) for each in sorted(folder.iterdir())},
    }
    model_card.write_card(model_card.card_of(stored), card)
    checked[stored.name] = _check_weights(stored, model.given(labels), images, labels, request)
    model_card.write_card(model_card.card_of(stored), card)
    if request.card:
        readme.write_readme(folder, run, model, card, stored.name)
        written = request.out.parent / readme.README
        print(f"{written}: for a hub; to upload: vaezoo push {written.parent} repo=OWNER/NAME")
    for each, found in checked.items():
        print(f"{request.out.parent / each}: {card['files'][each]['bytes']:,} bytes, differs by at most {found:.2g}")
    print(f"{request.out.parent / model_card.card_of(stored).name}: the card; checked on {which}")
    return card


def _check_weights(
    stored: Path, model: Autoencoder, images: torch.Tensor, labels: torch.Tensor, request: Request
) -> float:
    """The largest difference between the model loaded from the export and the original; RunError if too large."""
    again = load_exported(stored, packages=request.packages).given(labels)
    with torch.no_grad():
        code = model.encode(images)
        found = program_checks.difference([code, model.decode(code)], [again.encode(images), again.decode(code)])
    program_checks.refuse_beyond(found, stored)
    return found


def _card(run: Run, request: Request, model: Autoencoder, checkpoint: str, parts: programs.Programs) -> dict[str, Any]:
    """The content of the model card, without the files and their checks."""
    summary = run.summary
    tools = {tool: environment.version_of(tool) for tool in TOOLS}
    cls, shape = type(model), list(model.image_shape)
    return {
        "schema": model_card.SCHEMA,
        "model": {
            "class": f"{cls.__module__}.{cls.__qualname__}",
            "hyper_parameters": plain(dict(model.hparams)),
            "latent_dim": model.latent_dim,
            "parameters": count_parameters(model),
        },
        "training": {name: summary.get(name) for name in FROM_SUMMARY} | {"checkpoint": checkpoint},
        "data": summary.get("data"),
        "metrics": {stage: summary.get(stage) for stage in ("val", "test")},
        "images": {"shape": ["batch", *shape], "dtype": "float32", "range": None if is_table(shape) else [0, 1]},
        "labels": model.classes and {"shape": ["batch"], "dtype": "int64", "classes": model.classes},
        "programs": {name: {"inputs": part.inputs, "outputs": part.outputs} for name, (part, _) in parts.items()},
        "licence": request.licence,
        "load": f'import vaezoo; model = vaezoo.load("{request.out.name}{model_card.SUFFIX}")',
        "versions": {
            "trained": summary.get("environment"),
            "exported": environment.describe(torch.device("cpu")) | tools,
        },
    }


def _described(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": model_card.sha256(path)}
