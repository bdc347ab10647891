"""Hydra configs: where they are, checks of their settings, and Hydra's errors as one sentence."""

import math
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from vaezoo.config import automatic
from vaezoo.config.choices import COMPILE, EVALUATIONS, STEPPING
from vaezoo.config.errors import ConfigError, VaezooError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.reading import MOST_VALUES, flat
from vaezoo.config.validation import check_arguments, check_picture, check_threads, did_you_mean, one_of, shown

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""The folder of configs: inside the package in an installed wheel, beside it in a clone."""

PASSED_OTHERWISE = {"trainer": ("callbacks", "logger", "default_root_dir"), "model": ("image_shape",)}
"""Arguments that the program passes itself, so they cannot be settings."""


def options(group: str) -> list[str]:
    """Names of the configs in a group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if not path.stem.startswith("_"))


def check(cfg: DictConfig) -> None:
    """ConfigError for the first unknown name, wrong type or invalid value in a composed config."""
    metric = "val/loss" if cfg.optimized_metric is None else cfg.optimized_metric
    if not isinstance(metric, str) or not re.fullmatch(r"(val|test)/.+", metric):
        raise ConfigError(f"optimized_metric must be a name such as val/elbo, got {cfg.optimized_metric!r}")
    plain = OmegaConf.to_container(cfg, resolve=True)
    _check_values(plain)
    _check_groups(plain)
    for name, kind in {"seed": int, "test": bool}.items():
        if type(cfg[name]) is not kind:
            raise ConfigError(f"{name} must be {kind.__name__}, got {cfg[name]!r}")
    check_threads(cfg.get("threads", automatic.AUTO))
    one_of(cfg.evaluation, EVALUATIONS, "evaluation")
    if not any(cfg.compile is choice or (isinstance(choice, str) and cfg.compile == choice) for choice in COMPILE):
        raise ConfigError(f"compile must be false, true or reduce-overhead, got {shown(cfg.compile)}")
    one_of(cfg.stepping, STEPPING, "stepping")
    if not 0 <= cfg.seed < 2**32:
        raise ConfigError(f"seed must be from 0 to {2**32 - 1}, got {cfg.seed}")
    if (figures := cfg.get("figures")) is not None:  # runs of earlier versions have none
        if not isinstance(figures, DictConfig):
            raise ConfigError(f"figures must be the settings dpi and format, got {shown(figures)}")
        check_picture("figures", figures.get("dpi"), figures.get("format"))
    check_parts(plain)


def _check_groups(plain: Any) -> None:
    """ConfigError unless every group exists and all its parts have a ``_target_``."""
    parts = [(name, plain.get(name)) for name in ("model", "data", "trainer")]
    for name in ("callbacks", "logger"):
        group = plain.get(name)
        if not isinstance(group, dict):
            raise ConfigError(f"{name} must map names to settings, got {group!r}")
        parts += [(f"{name}.{key}", part) for key, part in group.items() if part is not None]
    for key, part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise ConfigError(f"{key} must be settings that name a class as _target_, got {str(part)[:80]!r}")


def check_parts(plain: Any, within: str = "") -> None:
    """ConfigError for an argument that a class in these settings does not accept; ``within`` is their dotted key."""
    for key, node in _targets(plain, within):
        own = (item for item in node.items() if not (isinstance(item[1], dict) and "_target_" in item[1]))
        values = {name: value for name, value in own if name not in ("_target_", "_convert_")}
        check_arguments(_locate(node["_target_"], key), values, key=key, extra=PASSED_OTHERWISE.get(key, ()))


def _check_values(plain: Any) -> None:
    """ConfigError for a value that could not be read back from the run's config, or is never valid."""
    values = flat(plain)
    if len(values) > MOST_VALUES:
        raise ConfigError(f"a config has at most {MOST_VALUES:,} values, got {len(values):,}")
    for key, value in values:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} must be a finite number, got {shown(value)}")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ConfigError(f"{key} must be a number of at most 64 bits, got {shown(value)}")
        if isinstance(value, str) and (not value.isprintable() or "${" in value):
            raise ConfigError(f"{key} must be a text without control characters and ${{...}}, got {shown(value)}")


def _targets(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``_target_``, with its dotted key."""
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield key, node
    for name, child in node.items():
        yield from _targets(child, f"{key}.{name}" if key else str(name))


def _locate(target: str, key: str) -> Any:
    module, _, name = str(target).rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_ must be an importable class, got {target!r} ({error})") from error


def read_value(setting: str) -> Any:
    """The value in KEY=VALUE as a plain Python object; ConfigError if it cannot be parsed."""
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.create(f"value: {setting.partition('=')[2]}"))
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read a setting: {' '.join(str(error).split())}") from error
    return plain["value"]


def with_run_dir(cfg: DictConfig, run_dir: Path) -> DictConfig:
    """A resolved copy of a config for ``run_dir``, with ``auto`` settings replaced and absolute paths."""
    before, now = str(cfg.run_dir), str(run_dir.absolute())
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[assignment]
    automatic.resolve(cfg)
    cfg.run_dir, cfg.resume = now, None
    if isinstance(cfg.data.get("root"), str):
        cfg.data.root = str(Path(cfg.data.root).expanduser().absolute())
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    # Paths in a recorded config are absolute. A relative folder may have the name of any other value, such as digits.
    return OmegaConf.create(moved(plain, before, now) if os.path.isabs(before) else plain)


def moved(node: Any, before: str, now: str) -> Any:
    """The plain values with every path in the folder ``before`` replaced by the same path in ``now``."""
    if isinstance(node, dict):
        return {key: moved(value, before, now) for key, value in node.items()}
    if isinstance(node, list):
        return [moved(value, before, now) for value in node]
    inside = isinstance(node, str) and (node == before or node.startswith(before + os.sep))
    return now + node[len(before) :] if inside else node


def refuse(error: Exception) -> int:
    """Print an error that the user can fix as one sentence and return exit code 1; raise any other error again."""
    sentence = explain(error)
    if sentence is None:
        raise error
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def explain(error: BaseException) -> str | None:
    """One sentence for an error that the user can fix; None for a bug in the program."""
    if isinstance(error, VaezooError):
        return str(error)
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _explain_part(error, error.__cause__)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_missing(error)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read the setting {error.override!r}; write KEY=VALUE, as in model.beta=4 or 'model.widths=[9,9]',"
            " and a value with signs such as = in its own quotes: \"run_dir='a=1'\""
        )
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_key(error)
    if _comes_from(error, ("lightning", "hydra", "hydra_plugins", "joblib", "submitit", "ray", "optuna")):
        return f"the settings do not fit: {_one_line(error)}"
    return None


def _comes_from(error: BaseException, packages: tuple[str, ...]) -> bool:
    """Whether an error was raised by the code of one of these packages, which then reject their arguments."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in packages


def _explain_part(error: InstantiationException, cause: BaseException) -> str | None:
    """One sentence for a library's rejection of its settings; None for other errors, which may be bugs."""
    if isinstance(cause, VaezooError):
        return str(cause)
    if not isinstance(cause, ValueError | TypeError | ImportError | OSError | RuntimeError) and not _comes_from(
        cause, ("lightning",)
    ):
        return None
    return (
        f"{str(error).rpartition('full_key: ')[2].strip() or 'a part of the config'} cannot be created:"
        f" {_one_line(cause)}"
    )


def _one_line(error: BaseException) -> str:
    """An error's message in one line, without the C++ stack that torch may add."""
    return " ".join(str(error).partition("\nException raised from")[0].split())[:1000]


def _explain_missing(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper") and name in LAUNCHERS:
        return missing(f"{group}={name}", LAUNCHERS[name])
    return f"there is no {group}={name}; set {group}= to one of {', '.join(options(group))}"


def _explain_key(error: BaseException) -> str:
    """One sentence for an unknown key, with the nearest known one; otherwise Hydra's message."""
    cause = error if isinstance(error, ConfigKeyError | ConfigAttributeError) else error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        parent = cause.parent_node
        known = [str(key) for key in parent] if isinstance(parent, DictConfig) else []
        within, _, name = str(cause.full_key).rpartition(".")
        sentence = f"{cause.full_key} is not a setting; {did_you_mean(name, [key for key in known if key[0] != '_'])}"
        open_ended = within in ("model.optimizer", "model.scheduler")
        other = f"; for another argument that its class takes, write +{cause.full_key}=..."
        return sentence + (other if open_ended else "")
    return _one_line(error)
