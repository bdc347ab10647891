"""A process of its own that finds what is wrong with the runs of a benchmark before any of them starts.

It reads their composed configs and the words for evaluate from standard input, checks the settings, makes models and
trainers and fetches the images, so that runs side by side do not fetch them at once. It trains nothing.
"""

import json
import sys
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaezoo.benchmark.folder import portable
from vaezoo.config import arguments, hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.distributed import interrupts


def main() -> int:
    """Print the GPUs there are as JSON; or say in one sentence what cannot be, and return 1."""
    import lightning.pytorch  # noqa: F401  before it is told to be quiet

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
    """The config of the first run of each column."""
    columns: dict[str, dict[str, Any]] = {}
    for cfg in configs:
        seedless = {**portable(cfg), "seed": 0, "data": {**cfg["data"], "seed": 0}}
        columns.setdefault(json.dumps(seedless), cfg)
    return list(columns.values())


def check_settings(resolved: dict[str, Any], *, elsewhere: bool = False) -> None:
    """Raise what training would raise for a config before it looks at images.

    ``elsewhere``: it will train on a machine of a cluster, of whose devices nothing is known here.
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
    instantiate(cfg.model, image_shape=list(instantiate(cfg.data).image_shape))
    instantiate(cfg.trainer, default_root_dir=str(cfg.run_dir), logger=False, callbacks=[])


def check_images(data: dict[str, Any]) -> None:
    """Fetch images where they are not on disk, and raise what training would raise for them; decodes few files."""
    datamodule = instantiate(OmegaConf.create(data), in_memory=False)
    datamodule.prepare_data()
    datamodule.setup("fit")


def check_evaluation(words: list[str]) -> None:
    """Raise what evaluate would raise for its settings."""
    from vaezoo.evaluation.settings import FULL, Settings, Words, with_changes

    with_changes(FULL, arguments.read(words, Words, Settings, prefix="evaluate.")[1])


if __name__ == "__main__":
    interrupts.run(lambda: sys.exit(main()))
