"""The command line: vaezoo train | list. Heavy libraries are imported by the commands that need them."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from vaezoo import __version__, config
from vaezoo.choices import LIKELIHOODS, NETWORKS


def main() -> None:
    """The program ``vaezoo``."""
    if sys.argv[1:2] == ["train"]:  # Hydra reads the rest of the line
        del sys.argv[1]
        train()
        return
    parser = argparse.ArgumentParser(prog="vaezoo", description="Train, understand and honestly compare autoencoders.")
    parser.add_argument("--version", action="version", version=f"vaezoo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train a model: vaezoo train model=beta_vae data=mnist", add_help=False)
    commands.add_parser("list", help="what there is to choose from").set_defaults(run=list_choices)
    arguments = parser.parse_args()
    arguments.run()


def list_choices() -> None:
    """Print the names that settings take."""
    print("model=            ", *config.options("model"))
    print("data=             ", *config.options("data"))
    print("model.network=    ", *NETWORKS)
    print("model.likelihood= ", *LIKELIHOODS)
    for group in ("trainer", "callbacks", "logger", "experiment"):
        print(f"{group + '=':18s}", *config.options(group))


def train() -> None:
    """Compose a config from the command line and train; ends the process with its exit code."""
    import hydra

    program = hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="train")(_train)
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        program()
    else:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on whole, and they are made short here
        try:
            _in_one_sentence(program)
        finally:
            del os.environ["HYDRA_FULL_ERROR"]


def _in_one_sentence(program: Callable[[], object]) -> None:
    """Run a program; print an error that lies with the user as one sentence and exit, let any other through whole."""
    try:
        program()
    except Exception as error:
        sentence = config.explain(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(1)


def _train(cfg: DictConfig) -> None:
    """One job of Hydra's. Its errors are told here, since Hydra would put a line of its own before them."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from vaezoo.training import resume, train

    job = HydraConfig.get()
    if cfg.resume is not None:
        _in_one_sentence(lambda: resume(Path(str(cfg.resume)), list(job.overrides.task)))
        return
    sweeping = job.mode == RunMode.MULTIRUN
    run_dir = Path(job.runtime.output_dir if sweeping else str(cfg.run_dir))
    _in_one_sentence(lambda: train(cfg, run_dir, sweeping=sweeping))


if __name__ == "__main__":
    main()
