"""Files of pretrained weights: where they are, and that they are the expected ones. Nothing is ever downloaded."""

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import how_to_install


def in_package(package: str, name: str, extra: str = "") -> str:
    """The path of a file that an installed package brings along; ConfigError if the package or the file is missing.

    ``extra`` is the one that installs the package. It is not imported.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / name).is_file():
            return str(path)
    if spec is None and extra:
        raise ConfigError(
            f"the package {package.replace('_', '-')} is not installed, which has the weights; to install it:"
            f" {how_to_install(extra)}"
        )
    raise ConfigError(f"the installed package {package} does not have the weights {name}; install another version")


def of_torchvision(name: str, path: str | None, remedy: str) -> str:
    """The path of torchvision's weights called ``name``: ``path`` if given, else in torch's own folder.

    ConfigError, which ends in ``remedy``, if there is no such file.
    """
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / name if path is None else Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"torchvision's weights {name} are needed, and there is no file {file}; {remedy}")
    return str(file)


def read(path: str, sha256: str) -> dict[str, Any]:
    """The tensors of a state dict by name, on the CPU.

    ConfigError if the file is unreadable or its SHA-256 does not start with ``sha256``: distances in the features of
    other weights would be other quantities.
    """
    import torch

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the weights in {path} cannot be read: {error}") from error
    if not (digest := hashlib.sha256(content).hexdigest()).startswith(sha256):
        raise ConfigError(
            f"{path} does not have the expected weights, because its SHA-256 starts with {digest[: len(sha256)]}, not"
            f" {sha256}; get the file again"
        )
    found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return found
