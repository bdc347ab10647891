"""Builds a page from run folders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vaezoo.config.errors import RunError, VaezooError, printable
from vaezoo.config.extras import need
from vaezoo.config.shapes import is_table
from vaezoo.explorer import images as page_images
from vaezoo.explorer.images import Images
from vaezoo.explorer.model_content import ModelContent, content_of
from vaezoo.explorer.page import Page, render
from vaezoo.models.loading import Run
from vaezoo.runs.files import replacing
from vaezoo.runs.trust import OWN

MOST_MODELS = 8
"""Maximum number of models on a page."""


def write_page(
    named: Mapping[str, Path],
    out: Path,
    *,
    packages: Sequence[str] = OWN,
    checkpoint: str | None = None,
    root: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Write a page with the models of run folders, by the names that they have on it, to the file ``out``.

    Returns a sentence on each that is left out: one on other data than the first, too large, or that cannot be
    exported, and those beyond ``MOST_MODELS``. ``packages`` may be imported to create models, ``checkpoint`` is
    ``best`` or ``last``, and ``root`` is where the images are if they have moved. ``report`` is called with the name
    of each model before its turn. Raises RunError if no model is left or ``out`` is not writable, DataError if the
    images cannot be read, ConfigError if a package for the export is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "export")
    runs, left_out = _on_the_same_data(named)
    first = next(iter(runs.values()))
    images = page_images.read(first.data(packages=packages, root=root))
    models = list[ModelContent]()
    for name, run in runs.items():
        report(name)
        if len(models) == MOST_MODELS:
            left_out.append(f"{name}, because a page has at most {MOST_MODELS} models; make another page for the rest")
            continue
        found = _content(name, run, images, packages, checkpoint)
        if isinstance(found, str):
            left_out.append(found)
        else:
            models.append(found)
    if not models:
        raise RunError(f"there is no model for a page: {'; '.join(left_out)}")
    _write(out, render(Page(images.shown, models), left_out))
    return left_out


def _on_the_same_data(named: Mapping[str, Path]) -> tuple[dict[str, Run], list[str]]:
    """The runs on the data of the first, and a sentence on each of the others."""
    runs = {name: Run(path) for name, path in named.items()}
    data = {name: _data_of(run) for name, run in runs.items()}
    first, *_ = data.values()
    others = [
        f"{name}, because it is on {said}, and the first run on {first}; make a page for each data set"
        for name, said in data.items()
        if said != first
    ]
    return {name: run for name, run in runs.items() if data[name] == first}, others


def _data_of(run: Run) -> str:
    """The data of a run in words, as far as its images depend on it; RunError if it does not say."""
    found = run.summary.get("data")
    if not isinstance(found, dict) or not isinstance(found.get("image_shape"), list):
        raise RunError(f"{run.path}/summary.json does not describe the data; finish its training first")
    if is_table(found["image_shape"]):
        raise RunError(
            f"{run.path} is a model of rows of a table, and the page shows images; use vaezoo encode or score"
        )
    size = "x".join(map(str, found["image_shape"]))
    binary = found.get("binarize") not in (None, "none", "null")
    return printable(f"{found.get('name')} of {size}{' (binarised)' if binary else ''}")


def _content(
    name: str, run: Run, images: Images, packages: Sequence[str], checkpoint: str | None
) -> ModelContent | str:
    """A model's content, or a sentence on why it is left out."""
    try:
        return content_of(run.model(checkpoint, packages=packages), name, run.summary, images)
    except (VaezooError, FloatingPointError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return printable(
            f"{name}, because {reason}; explore it in Python: model = vaezoo.load({str(run.path)!r}) and"
            " model.decode(code)"
        )


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as new:
            new.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise RunError(f"cannot write to out={out}: {error.strerror or error}; choose another") from error
