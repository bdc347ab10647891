"""``vaezoo encode RUN out=FILE [KEY=VALUE...]``: writes what a model says of each image to a table."""

from collections.abc import Sequence
from functools import partial

from vaezoo.commands.apply.request import SHARED_USAGE, Request, applied, read, say_missing, say_written
from vaezoo.config import arguments
from vaezoo.runs import tables

USAGE = f"""usage: vaezoo encode RUN|FILE.safetensors|hf://OWNER/NAME out=FILE [images=FOLDER] [KEY=VALUE...]

Write a table with a row for each image: path (or index), label, the code (z0, z1, ...), the log variance of its
posterior, the indices of a discrete code, and recon, kl and elbo in nats. Columns that a model does not have are left
out. Files that cannot be read are skipped.

  out=FILE            ends in .csv, .npz (arrays, of which the code is one) or .parquet (extra: parquet)
  images=test         train, val or test of the run's data set, an image file, or a folder of them
{SHARED_USAGE}"""


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_encode, words))


def _encode(words: Sequence[str]) -> int:
    encode(arguments_of(words))
    return 0


def arguments_of(words: Sequence[str]) -> Request:
    """Parse the command line; ConfigError for invalid arguments."""
    return read("encode", words, tables.KINDS)[0]


def encode(request: Request) -> None:
    """Write the table, part by part."""
    with applied(request) as trained, tables.writing(request.out) as table:
        from vaezoo.commands import console
        from vaezoo.evaluation import per_image

        images, rows, names = request.images(trained), 0, set[str]()
        with console.counting(f"encoding {request.options.images or 'test'}", len(images)) as advance:
            for part in per_image.encode(trained.model, images, seed=request.options.seed):
                table.add(part)
                names |= part.keys()
                rows += len(part["code"])
                advance(len(part["code"]))
    say_written(request, [images], f"{rows:,} images, codes of {trained.model.latent_dim:,} dimensions")
    say_missing(per_image.missing_columns(trained.model, names))
