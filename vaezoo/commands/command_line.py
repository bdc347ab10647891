"""The command line. Commands import heavy libraries themselves, so that the others start quickly."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig

from vaezoo.commands import sweeps
from vaezoo.config import VERSION, hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.distributed import interrupts, threads
from vaezoo.distributed.rank_zero import is_rank_zero

COMMANDS = {
    "evaluate": "vaezoo.commands.evaluate",
    "adopt": "vaezoo.commands.adopt",
    "prior": "vaezoo.commands.prior",
    "benchmark": "vaezoo.benchmark.command",
    "compare": "vaezoo.commands.compare",
    "explore": "vaezoo.commands.explore",
    "encode": "vaezoo.commands.apply.encode",
    "score": "vaezoo.commands.apply.score",
    "render": "vaezoo.commands.apply.render",
    "export": "vaezoo.commands.export.command",
    "push": "vaezoo.commands.push",
    "check": "vaezoo.commands.check.command",
    "list": "vaezoo.commands.list_choices",
}
"""Commands that parse their own arguments, and the modules with their ``main``."""

OWN_OF_HYDRA = ("hydra.run", "hydra.output_subdir", "hydra.job.chdir", "hydra.mode")
"""Prefixes of Hydra settings that are refused: they would write outside ``run_dir``, or start a sweep."""

WITH_VALUE = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")
"""Hydra options whose value may be the next argument."""

_program: list[str] = []


def main() -> None:
    """Run ``vaezoo``."""
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[:2])
        return
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        sys.exit(import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="vaezoo", description="Train, understand and fairly compare autoencoders.")
    parser.add_argument("--version", action="version", version=f"vaezoo {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train a model: vaezoo train model=beta_vae data=mnist", add_help=False)
    commands.add_parser("evaluate", help="measure trained runs: vaezoo evaluate RUN...", add_help=False)
    commands.add_parser("prior", help="fit a prior to the codes of runs: vaezoo prior RUN...", add_help=False)
    commands.add_parser("adopt", help="take a pretrained model: vaezoo adopt folder=PATH out=RUN", add_help=False)
    commands.add_parser("benchmark", help="train and compare a grid of runs: vaezoo benchmark out=DIR", add_help=False)
    commands.add_parser("compare", help="put runs side by side: vaezoo compare RUN... out=DIR", add_help=False)
    commands.add_parser("explore", help="run models in the browser: vaezoo explore RUN... out=FILE", add_help=False)
    commands.add_parser("export", help="write weights and programs: vaezoo export RUN out=FILE", add_help=False)
    commands.add_parser("encode", help="write the codes of images: vaezoo encode RUN out=FILE", add_help=False)
    commands.add_parser("score", help="score images as anomalies: vaezoo score RUN out=FILE", add_help=False)
    commands.add_parser("render", help="draw samples, paths: vaezoo render RUN what=sample out=FILE", add_help=False)
    commands.add_parser("push", help="upload an export to a hub: vaezoo push DIR repo=OWNER/NAME", add_help=False)
    commands.add_parser("check", help="check a model against the contract: vaezoo check model=NAME", add_help=False)
    commands.add_parser("list", help="list every option", add_help=False)
    parser.parse_args()


def train(program: Sequence[str] | None = None) -> None:
    """Compose a config from the command line and train; errors exit with a non-zero code.

    ``program`` is the part of ``sys.argv`` before the settings, by default the program's name. It is restored during
    training, because Lightning starts further processes with the same command line.
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
    """Run a multirun; ConfigError at the end if runs failed, from the errors in their folders."""
    sweeps.refuse_ranks_that_sweep()
    words, folder = sweeps.with_folder(words)
    before = sweeps.errors(folder)
    if not any(word.startswith(("sweep=", "hydra/launcher=")) for word in words):
        import vaezoo.commands.train  # noqa: F401  takes seconds; imported before a library can catch Ctrl-C
    try:
        with interrupts.cleaning_up():
            _hydra(words)
    except KeyboardInterrupt:  # raised by a launcher; a run in this process handles it itself
        print(f"stopped; resume the interrupted runs in {folder} with resume=RUN", file=sys.stderr)
        sys.exit(130)
    except Exception:
        sweeps.refuse_failed(folder, before)  # more informative than the launcher's error
        raise
    sweeps.refuse_failed(folder, before)


def options_last(words: Sequence[str]) -> list[str]:
    """Move options such as ``--config-dir`` behind all settings, the only order that Hydra accepts."""
    settings, options = list[str](), list[str]()
    for word in words:
        is_value = bool(options) and options[-1] in WITH_VALUE and not word.startswith("-")
        (options if is_value or word.startswith("-") else settings).append(word)
    return [*settings, *options]


def _hydra(words: list[str]) -> None:
    """Run Hydra, which calls ``_train`` for each run; its errors are raised unchanged."""
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
    """Print Hydra's help template with the comments of the yaml files. Faster than Hydra's own, which lists groups."""
    from string import Template

    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from vaezoo.commands.settings_help import annotated

    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    several = {word.partition("=")[0]: hydra_config.read_value(word) for word in overrides if "=[" in word}
    choices = {**several, **cfg.hydra.runtime.choices}  # lacks groups with several chosen files
    settings = annotated(OmegaConf.to_yaml(own), choices, hydra_config.CONFIGS)
    print(Template(cfg.hydra.help.template).substitute(CONFIG=f"{settings}\n"))


def _in_one_sentence(program: Callable[[], object]) -> None:
    """Run a function; print a user error as one sentence and exit with 1. Other errors are raised."""
    try:
        program()
    except KeyboardInterrupt:  # before training, so there is nothing to save
        sys.exit(130)
    except Exception as error:
        sentence = hydra_config.explain(error)
        if sentence is None:
            raise
        _print_error(sentence)
        sys.exit(1)


def _print_error(sentence: str) -> None:
    """Print an error, only in rank 0 if several ranks have the same one."""
    if is_rank_zero() and "vaezoo.distributed.ranks" not in sys.modules:
        print(f"error: {sentence}", file=sys.stderr)
        return
    from vaezoo.distributed import ranks  # imports torch, which takes seconds

    if not ranks.rank_zero_failed_too():
        print("error:" if is_rank_zero() else "error in another process:", sentence, file=sys.stderr)


def _resume(resumed: list[str], overrides: list[str]) -> None:
    """Resume a run with its own config, without Hydra."""
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
    """The run folder; ConfigError if the path is invalid."""
    from vaezoo.runs import paths

    name = cfg.run_dir  # only rank 0 checks what is there, before it writes
    return paths.run_folder(name, "run_dir") if is_rank_zero() else paths.folder(name, "run_dir")


def _refuse_hydra(words: Sequence[str]) -> None:
    """Raise ConfigError for Hydra settings that the program sets; in rank 0, as Lightning sets some for other ranks."""
    for word in words if is_rank_zero() else ():
        key = word.lstrip("+~").partition("=")[0]
        if key.startswith(OWN_OF_HYDRA):
            raise ConfigError(
                f"{key} is set by the program; use run_dir= to choose the folder of a run, and -m for a sweep"
            )


def _train(cfg: DictConfig) -> float | None:
    """One Hydra job; returns the value of ``optimized_metric`` in a sweep, else None."""
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
    sys.argv = [*_program, *words[1:]]  # Lightning starts further processes with the same command line
    try:
        _in_one_sentence(lambda: begin(cfg, _run_dir(cfg)))  # Hydra would print a line before an error
    finally:
        sys.argv = words
    return None


if __name__ == "__main__":
    interrupts.run(main)
