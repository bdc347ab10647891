"""What the commands of this package have in common: their arguments, and the trained model with its images."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vaezoo.commands.evaluate import device_called, note_unfinished, threads_of
from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError, printable
from vaezoo.config.validation import within
from vaezoo.distributed import interrupts, threads
from vaezoo.runs.outputs import checked_out
from vaezoo.runs.trust import OWN, allowed_packages

if TYPE_CHECKING:
    from vaezoo.data.named_images import NamedImages
    from vaezoo.models.trained import Trained

WEIGHTS = (".safetensors", ".json")
"""Ends of exported weights, and of their card."""

ON_HUB = "hf://"

SHARED_USAGE = """  overwrite=false     whether a file of that name may be replaced
  label=NUMBER        of all images, for a conditional model; by default that of the split, or of the folder in FOLDER
  checkpoint=best     or last, of a run
  seed=0              of all draws
  device=cpu          where to compute; a GPU if there is one
  packages=[NAME]     your own packages whose models may be created
  data.root=PATH      where the images of the run are on this machine, if they have moved since training
  data.follow_links=true   to follow links to folders, and to files elsewhere, in FOLDER
"""


@dataclass(frozen=True)
class Options:
    """Options of all these commands. ``images`` is None if they were not given."""

    out: str
    images: str | None = None
    overwrite: bool = False
    label: int | None = None
    checkpoint: Literal["best", "last"] | None = None
    seed: int = 0
    device: str | None = None
    packages: Any = None
    root: str | None = field(default=None, metadata={arguments.KEY: "data.root"})
    follow_links: bool = field(default=False, metadata={arguments.KEY: "data.follow_links"})

    def __post_init__(self) -> None:
        within(self.seed, 0, 2**63 - 1, "seed")


@dataclass(frozen=True)
class Request:
    """A parsed command line: a run folder, or exported weights here or on a hub; the file to write, and options."""

    verb: str
    source: str
    out: Path
    options: Options
    packages: Sequence[str] = OWN

    @property
    def is_exported(self) -> bool:
        """Whether the model is in a file, here or on a hub, instead of a run folder."""
        path = Path(self.source)
        return self.source.startswith(ON_HUB) or (path.suffix in WEIGHTS and not path.is_dir())

    def images(self, trained: "Trained", where: str | None = None) -> "NamedImages":
        """The images to work on, by default ``images=`` or else the test split; a note says if they are resized.

        ConfigError if exported weights have none.
        """
        where = where or self.options.images
        if where is None and self.is_exported:
            raise ConfigError(f"vaezoo {self.verb} needs images=FOLDER or FILE with exported weights")
        where = where or "test"
        found = trained.images(where, label=self.options.label, follow_links=self.options.follow_links)
        if note := found.resizing():
            print(printable(f"note: {note}"))
        return found


def read(verb: str, words: Sequence[str], endings: Collection[str], *schemas: type) -> tuple[Request, list[Any]]:
    """Parse a command line ``RUN|FILE.safetensors out=FILE [KEY=VALUE...]``; ConfigError for invalid arguments.

    ``endings`` are those that ``out`` may have; also returns an object of each of ``schemas``, which have further
    options.
    """
    sources, settings = arguments.split(words)
    given, *others = arguments.read(settings, Options, *schemas, prefix=f"{verb}.")
    if len(sources) != 1:
        raise ConfigError(f"vaezoo {verb} needs one run folder or FILE.safetensors, got {' '.join(sources) or 'none'}")
    if "out" not in given:
        raise ConfigError(f"vaezoo {verb} needs out=FILE, which ends in {', '.join(endings)}")
    options = Options(**given)
    out = checked_out(options.out, endings, overwrite=options.overwrite)
    device_called(options.device, f"{verb}.device")
    request = Request(verb, sources[0], out, options, allowed_packages(options.packages))
    return request, [schema(**values) for schema, values in zip(schemas, others, strict=True)]


@contextmanager
def applied(request: Request) -> Iterator["Trained"]:
    """The trained model of a request on its device, with the threads of its run; RunError if there is none."""
    import torch

    from vaezoo.models.loading import Run, load_trained
    from vaezoo.training.quiet import quieten

    quieten()
    options, count = request.options, threads.processors()
    if not request.is_exported:
        run = Run(request.source)
        note_unfinished(run)
        count = threads_of(run)
    with threads.limited_to(count), interrupts.cleaning_up(), torch.random.fork_rng(devices=[]):
        trained = load_trained(request.source, options.checkpoint, packages=request.packages, root=options.root)
        device = device_called(options.device, f"{request.verb}.device")
        trained.model.to(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        yield trained


def say_written(request: Request, images: "Sequence[NamedImages]", what: str) -> None:
    """Print what was written, and how many files could not be read."""
    print(printable(f"{request.out}: {what}"))
    skipped, count = sum(len(each.skipped) for each in images), sum(map(len, images))
    if skipped:
        print(f"skipped {skipped:,} of {count:,} image files, which cannot be read")


def say_missing(missing: Mapping[str, str]) -> None:
    """Print which columns a model does not have, by name, and why."""
    for reason in dict.fromkeys(missing.values()):
        print(printable(f"without {' and '.join(name for name in missing if missing[name] == reason)}: {reason}"))
