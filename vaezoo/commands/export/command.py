"""``vaezoo export RUN out=FILE [KEY=VALUE...]``: writes a run's weights and programs, and checks them."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vaezoo.commands.export.request import Options, Request
from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.extras import need
from vaezoo.distributed import interrupts
from vaezoo.runs import paths
from vaezoo.runs.trust import allowed_packages

USAGE = """usage: vaezoo export RUN out=FILE [KEY=VALUE...]

Write a run's weights to FILE.safetensors with a card FILE.json, from which vaezoo.load("FILE.safetensors") creates the
model, and programs of its encoder and decoder that do not need vaezoo. All are read back and compared with the model.

  program=none        or torch (FILE.encoder.pt2, FILE.decoder.pt2), onnx (FILE.encoder.onnx, ...), both
  checkpoint=best     or last
  card=false          true: out is a folder, for model.safetensors and a README.md for a hub with metrics and pictures
                      (extra: hub), which vaezoo push uploads
  overwrite=false     whether files of an earlier export may be replaced
  licence=null        the licence in the card, such as CC-BY-4.0
  packages=[NAME]     your own packages whose models may be created
  data.root=PATH      where the images are on this machine, if they have moved since training
"""


OF_CARD = ("README.md", "reconstructions.png", "samples.png", "interpolations.png")
"""Files of the card for a hub."""


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_export, words))


def _export(words: Sequence[str]) -> int:
    export(read(words))
    return 0


def read(words: Sequence[str]) -> Request:
    """Parse the command line; ConfigError for invalid arguments."""
    folders, settings = arguments.split(words)
    (given,) = arguments.read(settings, Options, prefix="export.")
    if len(folders) != 1 or "out" not in given:
        raise ConfigError("vaezoo export needs one run folder and out=FILE")
    place = _place(given.pop("out"), bool(given.get("card")))
    packages = allowed_packages(given.pop("packages", None))
    return Request(Path(folders[0]), place, packages=packages, **given)


def _place(out: str, card: bool) -> Path:
    """The files of an export without their suffixes; with a card, those called ``model`` in the folder ``out``."""
    if card:
        need("huggingface_hub", "hub")
        return paths.folder(out, "out") / "model"
    place = paths.file(out, "out")
    return place.with_suffix("") if place.suffix == ".safetensors" else place


def export(request: Request) -> dict[str, Any]:
    """Write and check all files of a request, and move them into place; returns the card.

    They are written to a temporary folder beside ``out``, so that none is left if one fails. Raises RunError if files
    exist, a check fails, or ``out`` is not writable.
    """
    from vaezoo.commands.export.package import write_all
    from vaezoo.models.loading import Run

    run = Run(request.run)
    earlier = _earlier(request.out, request.card)
    if earlier and not request.overwrite:
        raise RunError(f"{earlier[0]} already exists; choose another out=, or set overwrite=true")
    try:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        with (
            interrupts.cleaning_up(),
            tempfile.TemporaryDirectory(prefix=f".{request.out.name}.", dir=request.out.parent) as temporary,
        ):
            card = write_all(run, request, Path(temporary))
            for path in earlier:
                path.unlink()
            for path in sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".json"):  # the card last
                path.replace(request.out.parent / path.name)
    except OSError as error:
        raise RunError(f"cannot write to out={request.out}: {error.strerror or error}; choose another") from error
    return card


def _earlier(out: Path, card: bool) -> list[Path]:
    """Existing files of an earlier export to ``out``."""
    ends = [".safetensors", ".json", *(f".{part}.{end}" for part in ("encoder", "decoder") for end in ("pt2", "onnx"))]
    paths = [out.with_name(out.name + end) for end in ends]
    paths += [out.with_name(name) for name in OF_CARD if card]
    return [path for path in paths if path.exists() or path.is_symlink()]
