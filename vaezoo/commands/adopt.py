"""``vaezoo adopt folder=PATH out=RUN``: makes a run folder of an autoencoder that was trained elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo import runs
from vaezoo.commands.evaluate import device_called, write_evaluation
from vaezoo.config import arguments, hydra_config
from vaezoo.config.choices import EVALUATIONS
from vaezoo.config.errors import ConfigError, DataError, printable
from vaezoo.config.validation import one_of
from vaezoo.distributed import interrupts, threads
from vaezoo.runs import locks, paths, user_code
from vaezoo.runs.folder import ADOPTED

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from vaezoo.data import ImageDataModule
    from vaezoo.models.adoption import Source
    from vaezoo.models.pretrained import Pretrained

USAGE = """usage: vaezoo adopt folder=PATH out=RUN [data=NAME] [KEY=VALUE...]

Make a run folder of an autoencoder that was trained elsewhere, so that it can be evaluated and compared like every
other run. It is read from a local folder that save_pretrained of diffusers wrote: AutoencoderKL, AutoencoderTiny,
AutoencoderDC or VQModel, with weights as safetensors. The run has a copy of the weights. Its likelihood is a Gaussian
whose sigma is fitted to validation images. Nothing is downloaded.

  folder=PATH         the folder with config.json and diffusion_pytorch_model.safetensors
  out=RUN             the run folder to write
  data=NAME           the data set to evaluate it on, and any of its settings, such as data.channels=3
  name=NAME           what it is called in comparisons; the name of the folder by default
  evaluation=quick    as at the end of every training; full, as vaezoo evaluate does, or none
  device=cpu          where to compute; a GPU if there is one
  seed=0              of the codes that are drawn to fit sigma
  threads=auto        processors to compute with
  --config-dir=FOLDER, packages=[NAME]   your own data sets

It needs the extra pretrained.
"""

OF_DATA = ("data=", "data.", "seed=", "threads=")
"""Prefixes of the settings that are those of a training's config."""


@dataclass(frozen=True)
class Options:
    """Options of the command beside the settings of data."""

    folder: str
    out: str
    name: str | None = None
    evaluation: str = "quick"
    device: str | None = None


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_adopt, words))


def _adopt(words: Sequence[str]) -> int:
    options, cfg, packages = read(words)
    adopt(options, cfg, packages)
    return 0


def read(words: Sequence[str]) -> tuple[Options, "DictConfig", tuple[str, ...]]:
    """The options, the config of the run, whose model is still to be set, and the user's packages.

    ConfigError for invalid arguments.
    """
    from hydra import compose

    added, words = user_code.parse(words)
    of_data = [word for word in words if word.lstrip("+~").startswith(OF_DATA)]
    others = [word for word in words if word not in of_data]
    if stray := [word for word in others if "=" not in word]:
        raise ConfigError(f"vaezoo adopt takes KEY=VALUE, got {stray[0]}; write folder={stray[0]} or out={stray[0]}")
    (given,) = arguments.read(others, Options, prefix="adopt.")
    if lacking := [name for name in ("folder", "out") if not given.get(name)]:
        raise ConfigError(f"vaezoo adopt needs {lacking[0]}=PATH; see vaezoo adopt --help")
    options = Options(**given)
    one_of(options.evaluation, EVALUATIONS, "adopt.evaluation")
    device_called(options.device, "adopt.device")
    out = paths.run_folder(options.out, "out")
    with user_code.composing(added.config_dir):
        cfg = compose("train", overrides=[*of_data, "run_dir=none"])
    cfg = hydra_config.with_run_dir(cfg, out)
    hydra_config.check(cfg)
    return options, cfg, added.packages


def adopt(options: Options, cfg: "DictConfig", packages: Sequence[str]) -> None:
    """Read the model, fit its likelihood, write the run folder, and evaluate it."""
    import torch

    from vaezoo.commands.assembly import keep_range, keep_shape, made_data
    from vaezoo.evaluation import FULL, QUICK
    from vaezoo.models import adoption
    from vaezoo.models.loading import Run
    from vaezoo.training.quiet import quieten

    quieten()
    out = Path(cfg.run_dir)
    locks.refuse_if_held(out)
    runs.refuse_if_taken(out)
    source = adoption.find(paths.folder(options.folder, "folder"))
    device = device_called(options.device, "adopt.device")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with threads.limited_to(min(threads.choose(cfg.threads, math.inf), threads.processors())):
        data = made_data(cfg.data)
        keep_shape(cfg, data)
        model = adoption.adopt(source, data.image_shape, options.name).to(device)
        data.prepare_data()
        data.setup()
        keep_range(cfg, data)
        images, _ = data.examples(data.describe()["val"], "val")
        sigma = adoption.fit_sigma(model, images, seed=cfg.seed)
        with interrupts.cleaning_up(), locks.held(out):
            write(out, cfg, source, model, data)
            print(printable(f"{out}: {source.network} {model.hparams['name']}, sigma {sigma:.4g}, trained elsewhere"))
            if sizes := {"quick": QUICK, "full": FULL, "none": None}[options.evaluation]:
                try:
                    write_evaluation(Run(out), sizes, made_data(cfg.data), packages, device)
                except DataError as error:  # the run remains valid
                    print(printable(f"warning: no evaluation.json: {error}"))


def write(out: Path, cfg: "DictConfig", source: "Source", model: "Pretrained", data: "ImageDataModule") -> None:
    """Write a run folder: config, checkpoint and summary; nothing is left of it if this fails."""
    import torch

    from vaezoo.commands.run_summary import about
    from vaezoo.models import adoption
    from vaezoo.runs import environment
    from vaezoo.runs.files import replacing

    summary: dict[str, Any] = {
        "status": ADOPTED,
        **about(model, data),
        "seed": cfg.seed,
        "adopted": source.describe(),
        **{"epochs": 0, "steps": 0, "skipped_steps": 0, "changed": [], "val": {}, "test": {}, "cost": {}},
        "environment": environment.describe(model.device),
    }
    runs.start(out, config_of(cfg, model))
    try:
        (out / "checkpoints").mkdir(exist_ok=True)
        with replacing(out / "checkpoints" / "best.ckpt") as new:
            torch.save(adoption.checkpoint_of(model), new)
        runs.write_summary(out, summary)
    except BaseException:
        runs.clear(out)
        raise


def config_of(cfg: "DictConfig", model: "Pretrained") -> "DictConfig":
    """The config of the run: its model and data, and nothing of a training."""
    from omegaconf import OmegaConf

    from vaezoo.models import adoption

    kept = {name: cfg[name] for name in ("seed", "threads", "run_dir", "data")}
    found = OmegaConf.create({"model": adoption.settings_of(model), **kept, "trainer": {}})
    hydra_config.check_parts(OmegaConf.to_container(found, resolve=True))
    return found
