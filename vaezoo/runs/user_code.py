"""A user's own configs (``--config-dir``) and packages of models (``packages=``)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from vaezoo.config.errors import ConfigError
from vaezoo.config.hydra_config import CONFIGS, options, read_value
from vaezoo.runs.trust import OWN, allowed_packages

OPTION = "--config-dir"


class UserCode(NamedTuple):
    """A user's folder of configs (absolute path), and the packages whose classes may be created, including vaezoo."""

    config_dir: Path | None = None
    packages: tuple[str, ...] = OWN

    def options(self, group: str) -> list[str]:
        """Names in a config group, vaezoo's and the user's."""
        if self.config_dir is None:
            return options(group)
        own = (path.stem for path in (self.config_dir / group).glob("*.yaml") if not path.stem.startswith("_"))
        return sorted({*options(group), *own})

    def file(self, group: str, name: str) -> Path | None:
        """The yaml file of that name, the user's before vaezoo's; None if there is none."""
        folders = [CONFIGS] if self.config_dir is None else [self.config_dir, CONFIGS]
        return next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)

    @property
    def words(self) -> list[str]:
        """The command-line option that passes the folder to another command."""
        return [] if self.config_dir is None else [f"{OPTION}={self.config_dir}"]


def parse(words: Sequence[str]) -> tuple[UserCode, list[str]]:
    """Split a command line into the user's code and the other words.

    ConfigError if the folder does not exist or a package cannot be imported.
    """
    rest, folder, packages = list(words), None, None
    while found := [word for word in rest if word.partition("=")[0] in (OPTION, "packages")]:
        place, word = rest.index(found[0]), found[0]
        if word.startswith("packages="):
            packages = read_value(rest.pop(place))
            continue
        separate = "=" not in word
        value = "".join(rest[place + 1 : place + 2]) if separate else word.partition("=")[2]
        del rest[place : place + 1 + separate]
        folder = _folder(value)
    return UserCode(folder, _importable(allowed_packages(packages))), rest


def _folder(value: str) -> Path:
    path = Path(value).expanduser().absolute()
    if not value or not path.is_dir():
        raise ConfigError(f"{OPTION} must be a folder that contains configs such as model/NAME.yaml, got {value!r}")
    return path


def _importable(packages: tuple[str, ...]) -> tuple[str, ...]:
    for package in packages:
        if find_spec(package.partition(".")[0]) is None:
            raise ConfigError(
                f"packages names {package}, which cannot be imported; install it, or add its parent folder to"
                " PYTHONPATH"
            )
    return packages


@contextmanager
def composing(config_dir: Path | None) -> Iterator[None]:
    """Within the block, ``hydra.compose`` searches ``config_dir`` before vaezoo's own configs."""
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        if config_dir is not None:
            places = create_config_search_path(str(CONFIGS))
            places.prepend("command-line", f"file://{config_dir}")
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2(task_name="app", config_search_path=places)
        yield
