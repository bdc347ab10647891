"""Checks the runs of a benchmark before the first one starts, in a process of its own.

Reads composed configs and evaluation settings from standard input, validates them, creates models and trainers, and
downloads the images, so that parallel runs do not download them at the same time.
"""

import json
import sys
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaezoo.benchmark.folder import portable
from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.distributed import interrupts

FEW_CLASSES = 2
"""Number of labels of models that are only created to check their settings."""


def main() -> int:
    """Print the number of GPUs as JSON and return 0; on an error, print one sentence and return 1."""
    import lightning.pytorch  # noqa: F401  before its logging is quietened

    from vaezoo.training.quiet import quieten

    quieten()
    try:
        request = json.load(sys.stdin)
        check_evaluation(request["evaluate"])
        configs = without_seeds(request["configs"])
        for cfg in configs:
            check_settings(cfg, elsewhere=request["elsewhere"])
        for data in {json.dumps(cfg["data"]): cfg["data"] for cfg in configs}.values():
            check_images(data)
    except Exception as error:
        return hydra_config.refuse(error)
    import torch

    print(json.dumps({"gpus": torch.cuda.device_count()}))
    return 0


def without_seeds(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first config of each column: configs that differ only in their seed count once."""
    columns: dict[str, dict[str, Any]] = {}
    for cfg in configs:
        seedless = {**portable(cfg), "seed": 0, "data": {**cfg["data"], "seed": 0}}
        columns.setdefault(json.dumps(seedless), cfg)
    return list(columns.values())


def check_settings(resolved: dict[str, Any], *, elsewhere: bool = False) -> None:
    """Raise what training would raise for a config before it reads images.

    ``elsewhere``: the run will be on a cluster, whose devices are unknown here, so those settings are not checked.
    """
    cfg: Any = OmegaConf.create(resolved)
    hydra_config.check(cfg)
    if cfg.trainer.num_nodes != 1:
        raise ConfigError(
            f"each run of a benchmark uses one machine, got trainer.num_nodes={cfg.trainer.num_nodes}; start"
            " runs on several machines one by one, or with sweep=submitit_slurm"
        )
    if elsewhere:
        cfg.trainer.update({"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"})
    # The number of labels is known when the images have been downloaded, which may take long.
    unknown = {"classes": FEW_CLASSES} if cfg.model.get("classes", 0) is None else {}
    model = instantiate(cfg.model, image_shape=list(instantiate(cfg.data).image_shape), **unknown)
    if not elsewhere and hasattr(model, "read_weights"):
        model.read_weights()
    instantiate(cfg.trainer, default_root_dir=str(cfg.run_dir), logger=False, callbacks=[])


def check_images(data: dict[str, Any]) -> None:
    """Download missing images, and raise what training would raise for them. Decodes only a few files."""
    datamodule = instantiate(OmegaConf.create(data), in_memory=False)
    datamodule.prepare_data()
    datamodule.setup("fit")


def check_evaluation(words: list[str]) -> None:
    """Raise what ``vaezoo evaluate`` would raise for these settings."""
    from vaezoo.evaluation import settings

    settings.read(words)


if __name__ == "__main__":
    interrupts.run(lambda: sys.exit(main()))
