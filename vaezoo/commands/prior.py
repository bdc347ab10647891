"""``vaezoo prior RUN... [KEY=VALUE...]``: fits a prior to the codes of trained runs, to draw samples from."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo import runs
from vaezoo.commands.evaluate import (
    device_called,
    for_each,
    note_unfinished,
    refuse_missing,
    threads_of,
    write_evaluation,
)
from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError, RunError, printable
from vaezoo.distributed import interrupts, threads
from vaezoo.runs import locks
from vaezoo.runs.trust import allowed_packages, refuse_links

if TYPE_CHECKING:
    from torch import Tensor

    from vaezoo.data import ImageDataModule
    from vaezoo.evaluation import Settings
    from vaezoo.models import Autoencoder
    from vaezoo.models.loading import Run
    from vaezoo.training.index_prior import PriorSettings

USAGE = """usage: vaezoo prior RUN... [KEY=VALUE...]

Fit a prior to the codes that the best weights of runs give to training images, and keep it in each run folder. The
autoencoder does not change. With discrete codes, it is a transformer over their indices, from which model.sample then
draws; a run that was evaluated is evaluated again. With continuous codes, it is a mixture of Gaussians, as in every
evaluation, from which model.sample(..., prior="mixture") draws.

  seed=0              of the initial weights and the order of images, or of the mixture
  device=cpu          where to compute; a GPU if there is one
  packages=[NAME]     your own packages whose models may be created
  data.root=PATH      where the images are on this machine, if they have moved since training
  lpips_backbone=PATH for a run that is evaluated again, as in vaezoo evaluate

For discrete codes:

  epochs=5            passes over the training images; the best one on validation images is kept
  width=64            features of the transformer, a multiple of 4
  layers=2            its number of blocks
  batch_size=128      images per step
"""


@dataclass(frozen=True)
class Options:
    """Options beside those of the fit, as in ``vaezoo.evaluation.settings.Options``."""

    device: str | None = None
    packages: Any = None
    lpips_backbone: str | None = None
    root: str | None = field(default=None, metadata={arguments.KEY: "data.root"})


def main(words: list[str]) -> int:
    """Fit the priors of all runs; returns the exit code. An error in one run does not stop the others."""
    return arguments.run(words, USAGE, partial(_fit_all, words))


def _fit_all(words: Sequence[str]) -> int:
    paths, options, settings = read(words)
    return for_each(paths, lambda path: fit(path, options, settings))


def read(words: Sequence[str]) -> tuple[list[Path], Options, "PriorSettings"]:
    """Parse the command line into run folders, options and settings; ConfigError for invalid arguments."""
    from vaezoo.training.index_prior import PriorSettings

    folders, changes = arguments.split(words)
    if not folders:
        raise ConfigError("vaezoo prior needs at least one run folder")
    chosen, settings = arguments.read(changes, Options, PriorSettings, prefix="prior.")
    options = Options(**chosen)
    allowed_packages(options.packages)
    device_called(options.device, "prior.device")
    refuse_missing(options.lpips_backbone, "prior.lpips_backbone")
    return list(map(Path, folders)), options, PriorSettings(**settings)


def fit(path: Path, options: Options, settings: "PriorSettings") -> None:
    """Fit a prior to the codes of one run, and write it into the run folder."""
    import torch

    from vaezoo.models.loading import Run
    from vaezoo.training.quiet import quieten

    quieten()
    run, packages = Run(path), allowed_packages(options.packages)
    refuse_links(path)
    data = run.data(packages=packages, root=options.root)
    note_unfinished(run)
    device = device_called(options.device, "prior.device")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with threads.limited_to(threads_of(run)), interrupts.cleaning_up(), locks.held(path):
        with torch.random.fork_rng(devices=[]):  # weights are initialised before they are loaded
            model, step = run.model_at_step(packages=packages)
        if model.is_conditional:
            raise RunError("no prior is fitted to codes of images given their label; sample draws from the model's own")
        data.prepare_data()
        data.setup()
        about = {"checkpoint": run.checkpoint().stem, "step": step}
        subject = Subject(run, model.to(device).requires_grad_(False), data, about)
        if model.index_shape is None:
            _fit_mixture(subject, settings.seed)
            return
        _fit_indices(subject, settings)
        if sizes := _evaluated_with(run):
            write_evaluation(run, sizes, data, packages, device, options.lpips_backbone)


@dataclass(frozen=True)
class Subject:
    """A run with its model, ready to compute, its data, and ``about``, which says what weights the model has."""

    run: "Run"
    model: "Autoencoder"
    data: "ImageDataModule"
    about: dict[str, Any]


# continuous codes ----------------------------------------------------------------------------------------------------


def _fit_mixture(subject: Subject, seed: int) -> None:
    """Fit a mixture to the codes of training images and write mixture.json."""
    import torch

    from vaezoo.evaluation.inputs import CHUNK
    from vaezoo.metrics.mixtures import MOST_CODES

    run, model = subject.run, subject.model
    images, _ = subject.data.examples(MOST_CODES, "train")
    codes = torch.cat([model.encode(part.to(model.device)).cpu() for part in images.split(CHUNK)])
    mixture = model.fit_prior(codes, seed=seed)
    runs.write_mixture(run.path, {**subject.about, **mixture.plain()})
    where = "" if mixture.axes is None else f" on {mixture.axes} of {mixture.dimensions} axes"
    print(printable(f"{run.path}/mixture.json: {len(mixture.weights)} Gaussians{where}, from {len(codes):,} codes"))
    sizes = _evaluated_with(run)
    if sizes and (min(sizes.train_images, len(images)), sizes.seed) != (len(images), seed):
        print(printable(f"its evaluation is of another mixture; to measure this one: vaezoo evaluate {run.path}"))


# discrete codes ------------------------------------------------------------------------------------------------------


def _fit_indices(subject: Subject, settings: "PriorSettings") -> None:
    """Fit a prior to the indices of training images, and write it with what describes it."""
    from vaezoo.commands import console
    from vaezoo.models.stored_prior import described, packed
    from vaezoo.training.index_prior import fit_index_prior, no_index_prior

    run, model, layout, started = subject.run, subject.model, subject.model.index_layout, time.perf_counter()
    assert layout is not None
    if reason := no_index_prior(layout):
        raise RunError(f"no prior can be fitted: {reason}; choose a smaller codebook or grid")
    images = Indices(subject, settings.seed)
    with console.progress(f"fitting a prior to {run.path}", images.count_steps(settings)) as report:
        validation = images.of_validation(lambda: report("indices of validation images"))
        prior, rates = fit_index_prior(
            lambda epoch: images.of_epoch(epoch, lambda: report(f"indices of training images, epoch {epoch + 1}")),
            validation,
            layout,
            settings,
            device=model.device,
            step=lambda: report("training"),
            finished=lambda epoch, rate: print(f"epoch {epoch + 1}: {rate:.2f} nats per validation image", flush=True),
        )
    subject.data.close()
    independent = layout.independent_rate(validation)
    card = {
        **subject.about,
        **described(layout),
        "settings": settings.as_dict(),
        "parameters": prior.parameters,
        "val": {"uniform_rate": rates[0], "independent_rate": independent, "prior_rate": min(rates)},
        "rates": rates,
        "seconds": time.perf_counter() - started,
    }
    runs.write_index_prior(run.path, packed(prior), card)
    print(
        printable(
            f"{run.path}/prior: {min(rates):.2f} nats per validation image after epoch {rates.index(min(rates))};"
            f" {independent:.2f} if indices were independent, {rates[0]:.2f} if uniform; {prior.parameters:,}"
            f" parameters, {card['seconds']:.0f} s"
        )
    )


class Indices:
    """The indices of a data set's images, which are computed once, or in each epoch if they differ then.

    They differ if images are binarised anew, or if indices are drawn from a posterior.
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        import torch

        self.model, self.data = subject.model, subject.data
        self.generator = torch.Generator(self.model.device).manual_seed(seed)
        example, _ = self.data.examples(1, "val")
        drawn = self.model.posterior(example.to(self.model.device)) is not None
        self.anew = self.data.binarizes_anew or drawn
        self._kept: Tensor | None = None

    def count_steps(self, settings: "PriorSettings") -> int:
        """Batches of images to encode, and steps on batches of indices."""
        training, validation = self.data.train_dataloader(), self.data.val_dataloader()
        steps = math.ceil(self.data.describe()["train"] / settings.batch_size)
        return len(validation) + len(training) * (settings.epochs if self.anew else 1) + settings.epochs * steps

    def of_validation(self, report: Callable[[], None]) -> "Tensor":
        """Those of the validation images: (N, *index_shape)."""
        return self._of(self.data.val_dataloader(), report)

    def of_epoch(self, epoch: int, report: Callable[[], None]) -> "Tensor":
        """Those of the training images in an epoch: (N, *index_shape)."""
        if self._kept is None or self.anew:
            loader = self.data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            self._kept = self._of(loader, report)
        return self._kept

    def _of(self, loader: Any, report: Callable[[], None]) -> "Tensor":
        import torch

        found = []
        for x, *_ in loader:
            indices = self.model.draw_indices(x.to(self.model.device), self.generator)
            assert indices is not None
            found.append(indices.int().cpu())
            report()
        return torch.cat(found)


def _evaluated_with(run: "Run") -> "Settings | None":
    """The sample sizes of a run's evaluation; None, with a line on what to do, if it has none that can be read."""
    from vaezoo.evaluation import FULL, with_changes

    try:
        evaluation = run.evaluation
        if evaluation is not None:
            return with_changes(FULL, dict(evaluation["settings"]))
    except (RunError, ConfigError, KeyError, TypeError, ValueError):
        print(printable(f"{run.path}/evaluation.json cannot be read"))
    print(printable(f"to measure the prior: vaezoo evaluate {run.path}"))
    return None
