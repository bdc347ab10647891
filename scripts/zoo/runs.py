"""One small run of each model of the zoo: its command, its numbers and its picture."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor

import results
from vaezoo import figures
from vaezoo.comparison import records
from vaezoo.comparison.groups import SeedGroup, data_name
from vaezoo.config.errors import RunError
from vaezoo.config.reading import read_json
from vaezoo.metrics.paths import choose_pairs
from vaezoo.models.loading import Run

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "docs" / "zoo"
NOTES, NUMBERS, PICTURES = PAGES / "notes.yaml", PAGES / "zoo.json", PAGES / "pictures"

SHARED = ("trainer.max_epochs=30", "model.optimizer.lr=3e-3", "threads=1", "callbacks=none")
"""Settings of every run. There are few steps, and a likelihood's scale must be learned too: hence the learning rate."""

METRICS = (
    *("elbo", "elbo_given_label", "iw_bound", "iw_bound_given_label", "recon", "kl", "psnr"),
    *("prior_fd_classifier", "mixture_fd_classifier", "reconstruction_fd_classifier"),
    *("probe_accuracy", "active_units", "perplexity", "codes_used", "code_bits", "parameters"),
)
"""What a page shows of a run, as far as its model has it."""

COLUMNS = 10
"""Images in a row of a picture: as many as there are digits."""

Preset = dict[str, Any]
"""Notes on a model: ``when``, ``set``, ``pitfalls``, and ``run``, the settings of its small run that are its own."""


def notes() -> dict[str, Any]:
    """``families``, with their models; ``papers`` by authors and year; and ``presets`` by name."""
    found: dict[str, Any] = yaml.safe_load(NOTES.read_text())
    return found


def command(name: str, preset: Preset, out: Path | str) -> list[str]:
    """The command that trains a model's small run."""
    own = preset.get("run", [])
    return ["python", "train.py", f"model={name}", *own, *SHARED, f"run_dir={Path(out) / name}"]


def train(names: Iterable[str], out: Path) -> int:
    """Train the runs that are not finished, one after another; returns the first exit code that is not 0."""
    presets = notes()["presets"]
    for name in names:
        if _is_finished(out / name):
            continue
        words = command(name, presets[name], out)
        print("$", shlex.join(words), flush=True)
        code = subprocess.run([sys.executable, str(ROOT / words[1]), *words[2:], "resume=auto"]).returncode
        if code:
            return code
    return 0


def _is_finished(run_dir: Path) -> bool:
    summary = run_dir / "summary.json"
    return summary.is_file() and (run_dir / "evaluation.json").is_file() and read_json(summary)["status"] == "finished"


# numbers and pictures ------------------------------------------------------------------------------------------------


def store(names: Sequence[str], out: Path) -> None:
    """Add the numbers of runs to those that are stored, and draw their pictures; RunError if a run is missing."""
    kept = json.loads(NUMBERS.read_text()) if NUMBERS.is_file() else {}
    found = {name: numbers(name, out / name) for name in names}
    NUMBERS.write_text(json.dumps(dict(sorted({**kept, **found}.items())), indent=1) + "\n")
    for name in names:
        write_picture(Run(out / name), PICTURES / f"{name}.png")


def numbers(name: str, run_dir: Path) -> dict[str, Any]:
    """What is stored of a run: its data, versions and steps, its likelihood, and the metrics that it has."""
    if not _is_finished(run_dir):
        raise RunError(
            f"{run_dir} has no finished run; python scripts/zoo_pages.py train {name} --out {run_dir.parent}"
        )
    [record], refused = records.gather([run_dir])
    if refused:
        raise RunError(f"{run_dir} cannot be used: {refused[0].reason}")
    row = SeedGroup(name, {}, [record])
    kept = [metric for metric in METRICS if row.values(metric)]
    found = results.numbers(row, kept)
    found.pop("reasons")
    return {
        "data": data_name(record),
        "environment": results.environment([record]),
        "likelihood": row.likelihood,
        **found,
    }


@torch.no_grad()
def write_picture(run: Run, path: Path) -> None:
    """Test images, their reconstructions, an interpolation and samples, as a PNG with 256 colours."""
    model, data = run.model(), run.data()
    data.prepare_data()
    data.setup()
    x, labels = data.examples(COLUMNS, "test")
    first, last = choose_pairs(labels, 1)[0]
    walk = model.given(labels[first], labels[last]).interpolate(x[first], x[last], steps=COLUMNS)
    rows = {"test images": x, "reconstructions": model.given(labels).reconstruct(x), "interpolation": walk}
    rows |= samples(model)
    title = f"{type(model).__name__} on {data.describe()['name']} after {run.summary['steps']:,} steps"
    figure = figures.rows(rows, title)
    picture = Image.fromarray(figures.raster(figure))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def samples(model: Any) -> dict[str, Tensor]:
    """Rows of samples from the prior and the fitted mixture, as far as a model has them.

    A conditional model has one sample of each label.
    """
    seen = model.given(torch.arange(COLUMNS)) if model.is_conditional else model
    label = "samples, given 0 to 9" if model.is_conditional else "samples of the prior"
    drawn = seen.sample(COLUMNS, torch.Generator().manual_seed(0))
    found = {} if drawn is None else {label: drawn}
    if model.mixture is not None:
        found["samples of the mixture"] = model.sample(COLUMNS, torch.Generator().manual_seed(0), prior="mixture")
    return found
