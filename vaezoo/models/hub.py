"""Models on a hub (huggingface.co, or the one at HF_ENDPOINT): their addresses, downloads, and errors in one sentence.

Only weights as safetensors and JSON are downloaded: nothing from a hub is executed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.extras import need
from vaezoo.models import model_card

SCHEME = "hf://"
EXTRA = "hub"
DOWNLOADED = (f"*{model_card.SUFFIX}", "*.json")
"""Patterns of the files that are downloaded."""

NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Address(NamedTuple):
    """A repository ``owner/name`` at a revision (None for the newest), and a file in it (None if it has one model)."""

    repo: str
    revision: str | None
    file: str | None


def parse(address: str) -> Address:
    """``hf://OWNER/NAME``, which may end in ``@REVISION`` and then in ``/FILE.safetensors``; else ConfigError."""
    owner, _, rest = address.removeprefix(SCHEME).partition("/")
    name, _, file = rest.partition("/")
    name, _, revision = name.partition("@")
    return Address(checked_repo(f"{owner}/{name}"), revision or None, file or None)


def checked_repo(repo: str) -> str:
    """The name of a repository; ConfigError unless it is ``OWNER/NAME``."""
    if not NAME.fullmatch(repo):
        raise ConfigError(f"a model on the hub is called OWNER/NAME, got {repo!r}")
    return repo


def endpoint() -> str | None:
    """The hub's address in the environment; None for the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def download(address: str) -> Path:
    """Download weights and their card, or take them from the hub's cache; returns one of the two files.

    RunError if there is no access, or if the repository does not have exactly one model and the address names none.
    """
    hub, found = need("huggingface_hub", EXTRA), parse(address)
    with explained(found.repo, "read"):
        folder = hub.snapshot_download(
            found.repo, revision=found.revision, allow_patterns=list(DOWNLOADED), endpoint=endpoint()
        )
    if found.file is not None:
        path = Path(folder, found.file)
        if ".." in path.parts or not path.is_file():
            raise RunError(f"{found.repo} has no {found.file}; give one of {_named(_weights(folder))}")
        return path
    weights = _weights(folder)
    if len(weights) != 1:
        what = f"several models; add one of {_named(weights)}" if weights else "no weights as safetensors"
        raise RunError(f"{found.repo} has {what}, such as {SCHEME}{found.repo}/model{model_card.SUFFIX}")
    return weights[0]


def _weights(folder: str) -> list[Path]:
    return sorted(Path(folder).glob(f"*{model_card.SUFFIX}"))


def _named(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths) or "none"


@contextmanager
def explained(repo: str, what: str) -> Iterator[None]:
    """Errors of the hub within the block become RunError; ``what`` is ``read`` or ``write``."""
    errors = need("huggingface_hub.errors", EXTRA)
    try:
        yield
    except errors.LocalEntryNotFoundError as error:
        raise RunError(_no_answer(repo, what, error)) from error
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise RunError(_no_access(repo, what)) from error
    except errors.RevisionNotFoundError as error:
        raise RunError(f"{repo} has no such revision on the hub; leave it out for the newest") from error
    except (errors.LocalTokenNotFoundError, errors.HfHubHTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (None, 401, 403):
            raise RunError(_no_access(repo, what)) from error
        raise RunError(f"the hub refused to {what} {repo}: {_first_line(error)}") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"{repo!r} is not the name of a model on the hub: {_first_line(error)}") from error
    except OSError as error:
        raise RunError(_no_answer(repo, what, error)) from error


def _no_answer(repo: str, what: str, error: Exception) -> str:
    return f"the hub cannot be reached to {what} {repo}: {_first_line(error)}"


def _no_access(repo: str, what: str) -> str:
    return (
        f"there is no {repo} on the hub that you may {what}; check its name, and set HF_TOKEN to a token with access,"
        " or log in with hf auth login"
    )


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
