"""``vaezoo push DIR repo=OWNER/NAME``: uploads an export with a model card to a hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError, RunError, printable

USAGE = """usage: vaezoo push DIR repo=OWNER/NAME [KEY=VALUE...]

Upload the folder that vaezoo export RUN out=DIR card=true wrote to a hub (huggingface.co, or the one at HF_ENDPOINT),
from which vaezoo.load("hf://OWNER/NAME") loads the model. The repository is created if there is none. It needs the
extra hub, and a token with write access: log in with hf auth login, or set HF_TOKEN.

  repo=OWNER/NAME     where to
  private=true        whether a new repository is only for you
  message=TEXT        of the commit
"""

PATTERNS = ("*.safetensors", "*.json", "*.md", "*.png", "*.pt2", "*.onnx")
"""Patterns of the files that an export has."""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    repo: str = ""
    private: bool = True
    message: str = "Upload a model of vaezoo"


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_push, words))


def _push(words: Sequence[str]) -> int:
    push(*read(words))
    return 0


def read(words: Sequence[str]) -> tuple[Path, Options]:
    """Parse the command line; ConfigError for invalid arguments."""
    folders, settings = arguments.split(words)
    (given,) = arguments.read(settings, Options, prefix="push.")
    options = Options(**given)
    if len(folders) != 1 or not options.repo:
        raise ConfigError("vaezoo push needs the folder of an export and repo=OWNER/NAME")
    return Path(folders[0]), options


def push(folder: Path, options: Options) -> None:
    """Check and upload the folder; RunError if it is no export, or if there is no access."""
    from vaezoo.config.extras import need
    from vaezoo.models import hub

    library, repo = need("huggingface_hub", hub.EXTRA), hub.checked_repo(options.repo)
    check(folder)
    with hub.explained(repo, "write"):
        api = library.HfApi(endpoint=hub.endpoint())
        api.create_repo(repo, private=options.private, exist_ok=True)
        found = api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=list(PATTERNS), commit_message=options.message
        )
    print(printable(f'{found.commit_url}: uploaded; to load it: vaezoo.load("{hub.SCHEME}{repo}")'))


def check(folder: Path) -> None:
    """RunError unless the folder has a README.md, and weights with the card of the same export."""
    from vaezoo.models import model_card

    weights = sorted(folder.glob(f"*{model_card.SUFFIX}"))
    if not weights or not (folder / "README.md").is_file():
        raise RunError(f"{folder} is no export with a card; write one: vaezoo export RUN out={folder} card=true")
    for path in weights:
        model_card.find_card(path)
