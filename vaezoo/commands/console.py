"""Terminal output before and after training, also written to train.log."""

import logging
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from vaezoo.config.shapes import is_table
from vaezoo.distributed import threads
from vaezoo.distributed.rank_zero import is_rank_zero
from vaezoo.evaluation.cost import count_parameters
from vaezoo.metrics.catalogue import CATALOGUE, mostly_unused
from vaezoo.runs import RunFolder

if TYPE_CHECKING:
    from vaezoo.data import ImageDataModule
    from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)

SHOWN = (
    "elbo",
    "elbo_given_label",
    "recon",
    "kl",
    "bits_per_dim",
    "mse",
    "psnr",
    "active_units",
    "perplexity",
    "codes_used",
)
"""Metrics of the final table, in this order."""


def show_header(cfg: DictConfig, model: "Autoencoder", datamodule: "ImageDataModule") -> None:
    """Log run folder, data, model and objective, with notes on unusual settings."""
    data = datamodule.describe()
    channels, height, width = model.image_shape
    images = f"images of {height}x{width}, {channels} channel{'' if channels == 1 else 's'}"
    images += f", fit={data['fit']}, binarize={data['binarize']}"
    log.info("run folder  %s", cfg.run_dir)
    log.info(
        "data        %s: %s train, %s val, %s test %s",
        data["name"],
        *(f"{data[split]:,}" for split in ("train", "val", "test")),
        f"rows of {width:,} standardised columns" if is_table(model.image_shape) else images,
    )
    network = model.hparams["network"]
    name = type(model).__name__
    log.info(
        "model       %s, %s network, %d latent dimensions%s, %s parameters",
        name,
        network,
        model.latent_dim,
        f" ({'x'.join(map(str, model.code_shape))})" if len(model.code_shape) > 1 else "",
        f"{count_parameters(model):,}",
    )
    if threads.RUNS_AT_ONCE not in os.environ and (busy := threads.busy_line(cfg.threads)):
        log.warning("note        %s", busy)
    for line in objective_lines(model):
        log.info("objective   %s", line)
    x, _ = datamodule.examples(64)
    if not bool(model.likelihood.supports(x).all()):
        log.warning("note        %s", model.likelihood.unsupported)


def objective_lines(model: "Autoencoder") -> list[str]:
    """Sentences on the objective, in nats per image, and on the meaning of its weights."""
    objective = f"{model.formula()}, in nats per image, under a {model.likelihood.describe()} likelihood"
    return [objective, *model.explain_weights()]


@contextmanager
def progress(title: str, steps: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on terminals; yields a function to call with the name of each of ``steps`` steps."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=steps, completed=-1)
        yield lambda what: bar.update(task, description=f"{title}: {what}", advance=1)


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on terminals with the time left; yields a function to call with a number of finished items."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def show_result(summary: dict[str, Any], run_dir: Path) -> None:
    """Print the metrics of the best weights, the cost, and the run folder."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column, justify in (("metric", "left"), ("val", "right"), ("test", "right"), ("unit", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name in SHOWN:
        if name in summary["val"] or name in summary["test"]:
            values = (_short(summary[stage][name]) if name in summary[stage] else "" for stage in ("val", "test"))
            metric = CATALOGUE[name]
            table.add_row(name, *values, metric.unit + (f", {metric.better} is better" if metric.better else ""))
    console = Console()
    console.print(f"{summary['model']} after {summary['steps']:,} steps, {_which_weights(run_dir)}", highlight=False)
    console.print(table)
    console.print(cost_line(summary["cost"]), highlight=False, soft_wrap=True)
    console.print(f"run folder   {run_dir}", highlight=False, soft_wrap=True)
    console.print(f"tensorboard  {tensorboard_command(run_dir)}", highlight=False, soft_wrap=True)


def tensorboard_command(run_dir: Path) -> str:
    """A TensorBoard command that shows the run under the name of its folder.

    Run names are relative to --logdir, so that is the parent folder, unless it contains other folders than runs, which
    TensorBoard would search.
    """
    folder = run_dir.absolute()
    if _holds_only_runs(folder.parent):
        return f"tensorboard --logdir {shlex.quote(str(run_dir.parent))}"
    if any(sign in str(folder) for sign in ",:"):  # separators in --logdir_spec
        return f"tensorboard --logdir {shlex.quote(str(run_dir))}"
    return f"tensorboard --logdir_spec {shlex.quote(f'{folder.name}:{run_dir}')}"


def _holds_only_runs(folder: Path) -> bool:
    """Whether all folders in it, except hidden ones, are runs; False if it cannot be read."""
    try:
        folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return all((path / "config.yaml").is_file() for path in folders)
    except OSError:
        return False


def unused_line(summary: dict[str, Any], model: "Autoencoder") -> str:
    """A note if fewer than half of the latent dimensions are active, else an empty string."""
    active = summary["val"].get("active_units")
    if active is None:
        return ""
    weights = [f"model.{name}" for name in model.weights() if name in model.hparams]
    return mostly_unused(active, model.latent_dim, weights)


def cost_line(cost: dict[str, Any]) -> str:
    """A line with training time in seconds, the fractions spent on validation and pictures, speed and memory."""
    shares = ((name, cost[f"{name}_seconds"] / max(cost["seconds"], 1e-9)) for name in ("validation", "pictures"))
    return (
        f"{cost['seconds']:.1f} s of training: {', '.join(f'{name} {share:.0%}' for name, share in shares)};"
        f" {cost['images_per_second']:,.0f} images/s, {cost['peak_memory_bytes'] / 2**20:,.0f} MiB peak"
    )


def show_interrupted(run_dir: Path) -> None:
    """Log how to resume an interrupted run, if it has a checkpoint."""
    if any(path.stem == "last" for path in RunFolder(run_dir).checkpoints()):
        log.info("interrupted; resume with: python train.py %s", shlex.quote(f"resume={run_dir}"))
    else:
        log.info("interrupted before the first checkpoint: there is nothing to resume")


def _which_weights(run_dir: Path) -> str:
    saved = RunFolder(run_dir).checkpoints()
    return f"{saved[0].stem} weights" if saved else "the last weights"


def _short(value: float) -> str:
    """Format a number with two decimals, or four if its absolute value is below 1."""
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}"


class _LogFile(logging.FileHandler):
    """A log file that ignores write errors, such as a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error; disk errors are reported where they matter."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(run_dir: Path) -> Iterator[None]:
    """Also write log messages to ``train.log`` in the run folder; rank 0 only."""
    handler = _LogFile(run_dir / "train.log") if is_rank_zero() else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
