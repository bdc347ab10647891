"""The command line of vaezoo. Heavy libraries are imported by the commands that need them."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from vaezoo import __version__
from vaezoo.commands import sweeps
from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.distributed import interrupts, threads
from vaezoo.distributed.rank_zero import is_first

COMMANDS = {
    "evaluate": "vaezoo.commands.evaluate",
    "benchmark": "vaezoo.benchmark.command",
    "compare": "vaezoo.commands.compare",
    "export": "vaezoo.commands.export.command",
    "check": "vaezoo.commands.check.command",
    "list": "vaezoo.commands.list_choices",
}
"""Commands that read the rest of the line themselves, and the modules whose ``main`` they are."""

OWN_OF_HYDRA = ("hydra.run", "hydra.output_subdir", "hydra.job.chdir", "hydra.mode")
"""Settings of Hydra's, by how they begin, that would put files elsewhere than ``run_dir`` says, or make a sweep."""

WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")
"""Options of Hydra's whose value may be the next word."""

_program: list[str] = []


def main() -> None:
    """The program ``vaezoo``."""
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[:2])
        return
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        sys.exit(import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="vaezoo", description="Train, understand and fairly compare autoencoders.")
    parser.add_argument("--version", action="version", version=f"vaezoo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train a model: vaezoo train model=beta_vae data=mnist", add_help=False)
    commands.add_parser("evaluate", help="measure trained runs: vaezoo evaluate RUN...", add_help=False)
    commands.add_parser("benchmark", help="train and compare a grid of runs: vaezoo benchmark out=DIR", add_help=False)
    commands.add_parser("compare", help="put runs side by side: vaezoo compare RUN... out=DIR", add_help=False)
    commands.add_parser("export", help="write weights and programs: vaezoo export RUN out=FILE", add_help=False)
    commands.add_parser("check", help="check a model against the contract: vaezoo check model=NAME", add_help=False)
    commands.add_parser("list", help="list every option", add_help=False)
    parser.parse_args()


def train(program: Sequence[str] | None = None) -> None:
    """Compose a config from the command line and train; ends the process with its exit code.

    ``program`` is what of the line comes before the settings. It is put back while the training runs, of which
    Lightning starts further processes by the same line.
    """
    global _program
    threads.sleep_when_idle_if_busy()
    _program = list(program or sys.argv[:1])
    words = sys.argv[len(_program) :]
    resumed = [word for word in words if word.startswith("resume=") and word not in ("resume=null", "resume=auto")]
    if resumed:
        _in_one_sentence(lambda: _resume(resumed, [word for word in words if not word.startswith("resume=")]))
        return
    if any(word.startswith("resume.") for word in words):
        _in_one_sentence(_refuse_force)
        return
    flags = [word for word in words if word.startswith("-")]
    if flags in (["--help"], ["-h"]):
        _in_one_sentence(lambda: _help([word for word in words if word not in flags]))
        return
    _in_one_sentence(partial(_refuse_hydra, words))
    job = partial(_sweep, words) if sweeps.is_sweep(words) else partial(_hydra, words)
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        job()
    else:
        _in_one_sentence(job)


def _sweep(words: list[str]) -> None:
    """Run a multirun to its end; its runs leave word of what failed in their folders."""
    sweeps.refuse_ranks_that_sweep()
    words, folder = sweeps.with_folder(words)
    before = sweeps.errors(folder)
    if not any(word.startswith(("sweep=", "hydra/launcher=")) for word in words):
        import vaezoo.commands.train  # noqa: F401  which takes seconds, while Ctrl-C cannot be caught by a library
    try:
        with interrupts.cleaning_up():
            _hydra(words)
    except KeyboardInterrupt:  # a launcher's; a run at work in this process ends by itself
        print(f"stopped; resume the interrupted runs in {folder} with resume=RUN", file=sys.stderr)
        sys.exit(130)
    except Exception:
        sweeps.refuse_failed(folder, before)  # says more than what the launcher made of it
        raise
    sweeps.refuse_failed(folder, before)


def options_last(words: Sequence[str]) -> list[str]:
    """The same words with options such as ``--config-dir`` behind all settings, the only order that Hydra takes."""
    settings, options = list[str](), list[str]()
    for word in words:
        is_value = bool(options) and options[-1] in WITH_VALUE and not word.startswith("-")
        (options if is_value or word.startswith("-") else settings).append(word)
    return [*settings, *options]


def _hydra(words: list[str]) -> None:
    """Give settings to Hydra, which calls ``_train`` for each run, and have errors passed on whole."""
    import hydra

    sys.argv = [_program[0], *options_last(words)]  # where Hydra reads them
    program = hydra.main(version_base="1.3", config_path=str(hydra_config.CONFIGS), config_name="train")(_train)
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        program()
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _help(overrides: list[str]) -> None:
    """Print Hydra's template in half the time, as no group is listed, each setting with its yaml file's comment."""
    from string import Template

    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from vaezoo.commands.settings_help import annotated

    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    several = {word.partition("=")[0]: hydra_config.read_value(word) for word in overrides if "=[" in word}
    choices = {**several, **cfg.hydra.runtime.choices}  # which has no group of which several files are chosen
    settings = annotated(OmegaConf.to_yaml(own), choices, hydra_config.CONFIGS)
    print(Template(cfg.hydra.help.template).substitute(CONFIG=f"{settings}\n"))


def _in_one_sentence(program: Callable[[], object]) -> None:
    """Run a program; print an error that lies with the user as one sentence and exit, let any other through whole."""
    try:
        program()
    except KeyboardInterrupt:  # before training, when there is nothing to save
        sys.exit(130)
    except Exception as error:
        sentence = hydra_config.explain(error)
        if sentence is None:
            raise
        _tell(sentence)
        sys.exit(1)


def _tell(sentence: str) -> None:
    """Print an error, of several processes with the same one in the first alone."""
    if is_first() and "vaezoo.distributed.ranks" not in sys.modules:
        print(f"error: {sentence}", file=sys.stderr)
        return
    from vaezoo.distributed import ranks  # with torch, which takes seconds

    if not ranks.told_by_first():
        print("error:" if is_first() else "error in another process:", sentence, file=sys.stderr)


def _resume(resumed: list[str], overrides: list[str]) -> None:
    """Go on with a run, whose own config takes the place of the composed one: Hydra has nothing to do."""
    import logging

    from vaezoo.commands.train import resume
    from vaezoo.runs import paths
    from vaezoo.runs.trust import allowed_packages

    force = [word for word in overrides if word.startswith("resume.")]
    if any(word not in ("resume.force=true", "resume.force=false") for word in force):
        raise ConfigError(f"resume.force must be true or false, got {' '.join(force)}")
    overrides = [word for word in overrides if word not in force]
    flags = [word for word in overrides if word.startswith("-")]
    if flags or len(resumed) > 1:
        raise ConfigError(f"resume= takes one run and settings, got {' '.join([*resumed[1:], *flags])}")
    named = [word for word in overrides if word.startswith("packages=")]
    packages = allowed_packages(hydra_config.read_value(named[-1]) if named else None)
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
    run_dir = paths.folder(resumed[0].partition("=")[2].strip("'\""), "resume")
    overrides = [word for word in overrides if word not in named]
    resume(run_dir, overrides, packages, force="resume.force=true" in force)


def _refuse_force() -> None:
    raise ConfigError("resume.force=true applies only to a resumed run; give resume=RUN_DIR with it")


def _refuse_resume(value: object) -> None:
    raise ConfigError(f"resume must be auto, or a run folder given literally on the command line, got {value}")


def _run_dir(cfg: DictConfig) -> Path:
    """The folder of a new run, or of one that may go on; ConfigError if none can be meant."""
    from vaezoo.runs import paths

    name = cfg.run_dir  # of several processes, only the first looks at what lies there before it writes
    return paths.run_folder(name, "run_dir") if is_first() else paths.folder(name, "run_dir")


def _refuse_hydra(words: Sequence[str]) -> None:
    """ConfigError for settings of Hydra's that the program makes by itself, and Lightning for further processes."""
    for word in words if is_first() else ():
        key = word.lstrip("+~").partition("=")[0]
        if key.startswith(OWN_OF_HYDRA):
            raise ConfigError(
                f"{key} is set by the program; use run_dir= to choose the folder of a run, and -m for a sweep"
            )


def _train(cfg: DictConfig) -> float | None:
    """One job of Hydra's; returns what a search goes by, if the run is a part of one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from vaezoo.commands.train import train, train_or_resume

    job = HydraConfig.get()
    if cfg.resume not in (None, "auto"):
        _in_one_sentence(partial(_refuse_resume, cfg.resume))
    requeued = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    begin = train_or_resume if cfg.resume == "auto" or requeued else train
    if job.mode == RunMode.MULTIRUN:
        return sweeps.run_job(begin, cfg, Path(job.runtime.output_dir))
    words = sys.argv
    sys.argv = [*_program, *words[1:]]  # Lightning starts further processes by the same line
    try:
        _in_one_sentence(lambda: begin(cfg, _run_dir(cfg)))  # Hydra would put a line of its own before an error
    finally:
        sys.argv = words
    return None


if __name__ == "__main__":
    interrupts.run(main)
