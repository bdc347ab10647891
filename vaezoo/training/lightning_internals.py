"""Every private name of Lightning that vaezoo uses. No other module uses one.

``missing`` looks for them when a training starts. Without those of ``FAST_LOOP`` training uses Lightning's own loop;
without one of ``NEEDED`` it does not start.
"""

import threading
from collections.abc import Callable
from typing import Any

import lightning
import lightning.pytorch as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn

from vaezoo.config.errors import ConfigError

FAST_LOOP = (
    "_data_connector._datahook_selector.get_instance",
    "_logger_connector.on_batch_start",
    "fit_loop._data_fetcher",
    "fit_loop.epoch_loop._batches_that_stepped",
    "fit_loop.epoch_loop._is_training_done",
    "fit_loop.epoch_loop._num_ready_batches_reached",
    "fit_loop.epoch_loop._results",
    "fit_loop.epoch_loop._should_check_val_fx",
    "fit_loop.epoch_loop.automatic_optimization._skip_backward",
    "fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.increment_ready",
    "fit_loop.epoch_loop.batch_progress.increment_completed",
    "fit_loop.epoch_loop.update_lr_schedulers",
    "lightning_module._current_fx_name",
    "precision_plugin.train_step_context",
)
"""Attributes of a trainer that ``stepping=fast`` needs; those without an underscore are not documented either."""

NEEDED = (
    "_checkpoint_connector.dump_checkpoint",
    "_signal_connector.register_signal_handlers",
    "fit_loop._data_fetcher",
    "fit_loop._iteration_based_training",
    "fit_loop._load_combined_loader_states",
    "fit_loop._restarting",
    "fit_loop.epoch_loop._broadcast_sigterm_tensor",
    "fit_loop.epoch_loop._is_training_done",
    "fit_loop.epoch_loop._num_ready_batches_reached",
    "fit_loop.epoch_loop._should_accumulate",
    "fit_loop.epoch_loop._should_check_val_fx",
    "fit_loop.epoch_loop.update_lr_schedulers",
)
"""Attributes of a trainer that exact resume, checkpoints and clean stops need."""

NEEDED_OF_CHECKPOINTS = (
    "_last_checkpoint_saved",
    "_last_global_step_saved",
    "_save_checkpoint",
    "_should_skip_saving_checkpoint",
)
"""Attributes of a ``ModelCheckpoint``."""


def missing(thing: Any, names: tuple[str, ...]) -> list[str]:
    """Those of ``names``, dotted paths of attributes, that an object does not have."""
    return [name for name in names if not _has(thing, name)]


def _has(thing: Any, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


def refuse_unknown_version(trainer: L.Trainer) -> None:
    """ConfigError if the installed Lightning lacks a private name that training cannot do without."""
    lacking = missing(trainer, NEEDED) + missing(ModelCheckpoint(), NEEDED_OF_CHECKPOINTS)
    if lacking:
        raise ConfigError(
            f"vaezoo does not work with lightning {lightning.__version__}, which has no {lacking[0]}; install a"
            " version that pyproject.toml allows"
        )


# models ---------------------------------------------------------------------------------------------------------------


def trainer_of(model: L.LightningModule) -> L.Trainer | None:
    """The trainer that a model is attached to, if any."""
    return model._trainer


def set_hook_for_logging(model: Any, name: str) -> None:
    """Declare which hook is running, which decides what ``model.log`` allows."""
    model._current_fx_name = name


# the training loop ----------------------------------------------------------------------------------------------------


def data_fetcher(trainer: Any) -> Any:
    """The iterator over a trainer's training batches."""
    return trainer.fit_loop._data_fetcher


def transfer_hooks(trainer: Any) -> list[Callable[..., Any]]:
    """The three hooks that bring a batch to the device, each the model's or the data module's."""
    names = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    selector = trainer._data_connector._datahook_selector
    return [getattr(selector.get_instance(name), name) for name in names]


def note_batch(trainer: Any, batch: Any) -> None:
    """Give Lightning's logging the batch that starts."""
    trainer._logger_connector.on_batch_start(batch)


def count_step(loop: Any) -> None:
    """Count a finished batch as one that took an optimiser step."""
    loop._batches_that_stepped += 1


def is_done(loop: Any) -> bool:
    """Whether the epoch, or the whole training, ends after the last batch."""
    return bool(loop._is_training_done)


def validates_next(loop: Any, fetcher: Any) -> bool:
    """Whether validation follows the last batch."""
    return bool(loop._should_check_val_fx(fetcher))


def accumulates(loop: Any) -> bool:
    """Whether the last batch's gradients are only accumulated."""
    return bool(loop._should_accumulate())


def skips_backward(loop: Any) -> bool:
    """Whether a callback has switched the backward pass off."""
    return bool(loop.automatic_optimization._skip_backward)


def has_logged(loop: Any) -> bool:
    """Whether ``log`` was called in this epoch, so that Lightning has values to reduce."""
    return bool(loop._results)


def is_last_of_epoch(loop: Any) -> bool:
    """Whether the batch that was fetched last is the epoch's last."""
    return bool(loop._num_ready_batches_reached())


# resuming -------------------------------------------------------------------------------------------------------------


def count_epochs_once(trainer: Any) -> None:
    """Where ``max_steps`` is set, keep Lightning from counting a finished epoch again when it resumes."""
    trainer.fit_loop._iteration_based_training = lambda: False


def restore_loaders(trainer: Any) -> None:
    """Load the loaders' states again, for loaders that were created before the checkpoint was read."""
    trainer.fit_loop._load_combined_loader_states()


def skip_plateau_schedulers(trainer: Any) -> None:
    """Keep Lightning from stepping ReduceLROnPlateau at the end of this epoch, since that was done already."""
    trainer.fit_loop._restarting = True


# checkpoints ----------------------------------------------------------------------------------------------------------


class Checkpointing(ModelCheckpoint):
    """A ``ModelCheckpoint`` whose subclass writes the file, in ``write_checkpoint``."""

    def write_checkpoint(self, trainer: L.Trainer, path: str) -> None:
        """Save the present step to ``path``."""
        raise NotImplementedError

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        self.write_checkpoint(trainer, filepath)
        self._last_global_step_saved, self._last_checkpoint_saved = trainer.global_step, filepath

    def is_saved(self, trainer: L.Trainer) -> bool:
        """Whether the present step needs no saving: it was saved, or nothing is trained."""
        return self._should_skip_saving_checkpoint(trainer)


def checkpoint_content(trainer: Any, *, weights_only: bool) -> dict[str, Any]:
    """What a checkpoint of the present step contains."""
    content: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(weights_only)
    return content


def averaged_model(callback: Any) -> nn.Module:
    """The model whose weights are the averages of a ``WeightAveraging`` that has been set up."""
    model: nn.Module = callback._average_model.module
    return model


# processes ------------------------------------------------------------------------------------------------------------


def leave_signals_alone(trainer: Any) -> None:
    """Keep Lightning from handling signals, and from synchronising with the GPU at each step to ask for one."""
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def dismiss_process_observer() -> None:
    """Stop Lightning's thread that kills this process soon after another rank ends, before anything is recorded."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]


class AllDevicesShard(ModelParallelStrategy):
    """A ``ModelParallelStrategy`` that shards the weights over all devices of all nodes, not over nodes only."""

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
