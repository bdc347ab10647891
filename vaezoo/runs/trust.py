"""Checks of run folders from others: only classes on an allow-list, and no files outside of the run folder.

Settings on the user's own command line are trusted.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from vaezoo.config import own_code
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.hydra_config import moved
from vaezoo.config.reading import flat
from vaezoo.runs.files import TEMPORARY_SUFFIX

OWN = ("vaezoo",)
LIGHTNING = frozenset(
    (
        "lightning.pytorch.Trainer",
        "lightning.pytorch.callbacks.EMAWeightAveraging",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.strategies.DDPStrategy",
        "lightning.pytorch.strategies.FSDPStrategy",
        "lightning.pytorch.strategies.ModelParallelStrategy",
    )
)
"""Classes of Lightning that a loaded config may create, each only in its place: those in vaezoo's configs of this and
earlier versions, and two common callbacks."""
WRITERS = ("dirpath", "save_dir", "root_dir", "log_dir")
"""Settings of callbacks and loggers with paths to write to."""

FILES = (
    "*.yaml",
    "*.json",
    "*.csv",
    "*.log",
    "*.lock",
    f"**/*{TEMPORARY_SUFFIX}",
    "*.tfevents.*",
    "*.db",
    "checkpoints/*",
    "figures/*/*",
    "prior/*",
)
FOLDERS = ("checkpoints", "figures", "mlruns", "nonfinite", "prior", "wandb")
"""Patterns of the files, and names of the folders, in a run folder."""


def allowed_packages(value: Any) -> tuple[str, ...]:
    """The packages in the setting ``packages``, plus vaezoo; ConfigError unless it is a list of package names."""
    names = [] if value is None else value
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(_is_name(name) for name in names):
        raise ConfigError(f"packages must be a list of names of Python packages, such as [mypackage], got {value!r}")
    return (*OWN, *names)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def packages_of(config: Mapping[str, Any]) -> list[str]:
    """The packages whose classes a config uses, other than vaezoo, lightning and torch."""
    targets = [str(value) for key, value in flat(config) if key.rpartition(".")[2] == "_target_"]
    targets += map(own_code.module_of, own_code.named(config).values())
    known = (*OWN, "lightning", "torch")
    return sorted({target.partition(".")[0] for target in targets} - set(known))


def belongs(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of the packages or inside of one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# configs -------------------------------------------------------------------------------------------------------------


def check_config(
    config: Mapping[str, Any], where: Path, *, packages: Sequence[str] = OWN, overrides: Sequence[str] = ()
) -> None:
    """RunError if a loaded config creates a class that is not allowed, or writes outside of its run folder ``where``.

    ``overrides`` are settings of the command line, which are trusted.
    """
    own = {word.lstrip("+~").partition("=")[0] for word in overrides}
    # A mapping on the command line is merged into the config's, so it only replaces a class if it has a _target_ or
    # is null.
    typed = [word.lstrip("+~").partition("=") for word in overrides]
    own |= {f"{key}._target_" for key, _, value in typed if "_target_" in value or value == "null"}
    for key, node in _mappings(config):
        for name in node:
            if name.startswith("_") and name not in ("_target_", "_convert_"):
                raise RunError(
                    f"{where}/config.yaml sets {key}.{name}, which does not belong in a run's config; remove it"
                )
        if "_target_" in node and f"{key}._target_" not in own:
            _check_target(key, node["_target_"], where, packages)
    check_own_code(config, where / "config.yaml", packages, typed=own)
    for group in ("callbacks", "logger", "trainer"):
        for key, value in flat(config.get(group), group):
            if key not in own and isinstance(value, str):
                _check_path(key, value, str(config.get("run_dir")), where)


def check_own_code(
    config: Mapping[str, Any], where: Path, packages: Sequence[str], *, typed: Collection[str] = ()
) -> None:
    """RunError if settings in the file ``where`` name a function or class that is not in the user's ``packages``.

    Those of vaezoo itself are refused too: not each is safe to call. Keys in ``typed`` are the user's own, so trusted.
    """
    allowed = [package for package in packages if package not in OWN]
    for key, value in own_code.named(config).items():
        module = own_code.module_of(value)
        if key not in typed and not belongs(module, allowed):
            raise RunError(
                f"{where} asks for {value!r} in {key}; if you trust it, name its package:"
                f" packages=[{module.partition('.')[0]}]"
            )


def _mappings(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping, including those in lists, with its dotted key."""
    if isinstance(node, Mapping):
        yield key, node
    children = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from _mappings(child, f"{key}.{name}" if key else str(name))


def _check_target(key: str, target: Any, where: Path, packages: Sequence[str]) -> None:
    """RunError unless ``target`` is a class that may be created at this key of a config."""
    module = str(target).rpartition(".")[0]
    known = isinstance(target, str) and (target in LIGHTNING or belongs(module, (*packages, "torch.nn")))
    if not known:
        raise RunError(
            f"{where}/config.yaml asks for {target!r} in {key}; if you trust it, name its package:"
            f" packages=[{str(target).partition('.')[0]}]"
        )
    try:
        cls = getattr(import_module(module), target.rpartition(".")[2])
    except Exception as error:  # importing a module may raise anything
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"{where}/config.yaml asks for {target!r} in {key}, which cannot be imported: {reason}"
        ) from error
    kind = _kind(key)
    if kind is None:
        raise RunError(f"{where}/config.yaml asks for {target!r} in {key}, where no object may be created; remove it")
    from_torch = kind.__name__ == "Module" and belongs(getattr(cls, "__module__", None) or "", ("torch.nn.modules",))
    defined = isinstance(cls, type) and (target in LIGHTNING or belongs(cls.__module__, packages) or from_torch)
    if defined and issubclass(cls, kind):
        return
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    raise RunError(
        f"{where}/config.yaml asks for {target!r} in {key}, where only {article} {kind.__name__} may be created"
    )


def _kind(key: str) -> type | None:
    """The base class required at a key of a config; None if nothing may be created there.

    A part of a model may be any ``nn.Module``: models are first created on the meta device, without memory.
    """
    import lightning.pytorch as L
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy
    from torch import nn

    kinds: dict[str, type] = {"data": L.LightningDataModule, "model": L.LightningModule, "trainer": L.Trainer}
    kinds["trainer.strategy"] = Strategy
    group, _, rest = key.partition(".")
    if rest and "." not in rest and group in ("callbacks", "logger"):
        return L.Callback if group == "callbacks" else Logger
    return nn.Module if group == "model" and rest else kinds.get(key)


def _check_path(key: str, value: str, run_dir: str, where: Path) -> None:
    """RunError for a path that, relative to the recorded ``run_dir``, lies outside of the run folder ``where``."""
    writes = key.rpartition(".")[2] in WRITERS
    if not writes and not value.startswith(("/", "~", "\\")) and "://" not in value and ".." not in Path(value).parts:
        return
    folder = where.absolute()
    written = Path(moved(value, run_dir, str(folder)))
    inside = written.is_relative_to(folder) and ".." not in written.relative_to(folder).parts
    if not (inside and Path(run_dir).is_absolute() and Path(run_dir).name not in ("", "..")):
        raise RunError(
            f"{where}/config.yaml writes outside of the run folder ({key}={value}); to allow it, give {key}=PATH on"
            " the command line"
        )


def refuse_links(run_dir: Path) -> None:
    """RunError if a run folder has links that lead out of it, pipes or devices, or fails ``refuse_misplaced``."""
    root = run_dir.resolve()
    for base, folders, names in os.walk(root):
        for path in (Path(base, name) for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise RunError(
                    f"{path} is a link that leads out of the run folder ({os.readlink(path)}), so files would be"
                    " written elsewhere; replace it with the file or folder itself"
                )
            if not path.is_file() and not path.is_dir() and path.exists():
                raise RunError(f"{path} is neither a file nor a folder; remove it")
    refuse_misplaced(run_dir)


def refuse_misplaced(run_dir: Path) -> None:
    """RunError if there is a folder where a run has a file, or a file where it has a folder."""
    for path in (path for pattern in FILES for path in run_dir.glob(pattern)):
        if path.is_dir():
            raise RunError(f"{path} is a folder, but a run has a file of that name; move it away")
    for path in (run_dir / name for name in FOLDERS):
        if path.is_file():
            raise RunError(f"{path} is a file, but a run has a folder of that name; move it away")
