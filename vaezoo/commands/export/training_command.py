"""The command that trains a model as a run was trained, found by what its config has of vaezoo's own."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from vaezoo.config import hydra_config
from vaezoo.config.reading import flat
from vaezoo.runs import user_code

OF_TRAINING = ("model.", "data.", "trainer.", "seed", "compile", "stepping")
"""Settings that decide what is trained; others decide what is recorded of it."""

OF_MACHINE = ("data.root", "data.num_workers", "data.in_memory", "data.memory_limit_gib", "trainer.enable_progress_bar")


def training_command(config: DictConfig) -> str | None:
    """``python train.py model=NAME data=NAME ...``; None if vaezoo has no config of that model or data."""
    plain: Any = OmegaConf.to_container(config)
    with user_code.composing(None):
        names = {group: _names(group, plain.get(group) or {}) for group in ("model", "data")}
        found = [
            _words(plain, model, data) for model in names["model"] for data in names["data"] if _is_of(plain, model)
        ]
    return min((shlex.join(words) for words in found), key=len, default=None)


def _names(group: str, settings: Mapping[str, Any]) -> list[str]:
    """Configs of a group that may be the run's, by what they write themselves."""
    if group == "model":
        return hydra_config.options(group)
    return [name for name in hydra_config.options(group) if _agrees(group, name, settings, ("source", "dataset"))]


def _agrees(group: str, name: str, settings: Mapping[str, Any], keys: Sequence[str]) -> bool:
    written = yaml.safe_load((hydra_config.CONFIGS / group / f"{name}.yaml").read_text())
    return all(written[key] == settings.get(key) for key in keys if key in written)


def _is_of(plain: Mapping[str, Any], model: str) -> bool:
    """Whether the yaml of a model names the class of the run's."""
    written = yaml.safe_load((hydra_config.CONFIGS / "model" / f"{model}.yaml").read_text())
    return bool(written.get("_target_") == (plain.get("model") or {}).get("_target_"))


def _words(plain: Mapping[str, Any], model: str, data: str) -> list[str]:
    from hydra import compose

    cfg = compose("train", overrides=[f"model={model}", f"data={data}", "run_dir=none"])
    own = dict(flat(OmegaConf.to_container(cfg, resolve=True), whole=True))
    changed = {
        key: value
        for key, value in flat(plain, whole=True)
        if key.startswith(OF_TRAINING) and key not in OF_MACHINE and "_target_" not in key and own.get(key) != value
    }
    settings = [f"{'' if key in own else '+'}{key}={_written(value)}" for key, value in changed.items()]
    return ["python", "train.py", f"model={model}", f"data={data}", *settings]


def _written(value: Any) -> str:
    """A value as Hydra reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("\n...").removesuffix("...").strip()
