"""Weights & Biases as a logger."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from vaezoo.config import extras
from vaezoo.config.reading import read_rows
from vaezoo.training.loggers import TABLE
from vaezoo.training.trackers.tracker import Tracker


class WandbLogger(Tracker):
    """Logs to Weights & Biases, by default offline in ``RUN_DIR/wandb``; ``wandb sync`` uploads it.

    Each call logs a row, as in metrics.csv, with ``trainer/global_step`` as the x-axis. Offline, every resume writes
    another file of the same run, which starts with the whole record of the run folder: upload the last one. Online,
    rows after the checkpoint appear twice.

    Args:
        save_dir: the run folder.
        name: of the run in W&B; None takes the name of the run folder.
        project, entity, group, tags: as for ``wandb.init``.
        run_id: use this W&B run instead of a new one or the one recorded in the run folder.
        offline: only write files and use no network.
    """

    package = "wandb"

    def __init__(
        self,
        *,
        save_dir: str,
        name: str | None = None,
        project: str = "vaezoo",
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        run_id: str | None = None,
        offline: bool = True,
    ) -> None:
        super().__init__(save_dir=save_dir, name=name, run_id=run_id)
        self._offline = offline
        self._arguments = {"project": project, "entity": entity, "group": group, "tags": tags}
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B would send its own errors to its server
        extras.need("wandb", "trackers")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.run.log({**metrics, "trainer/global_step": step})

    @rank_zero_only
    def log_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        import wandb

        self.log_metrics({name: wandb.Image(pixels)}, step)

    def hint(self) -> str:
        return f"wandb sync {shlex.quote(str(self._files))}" if self._offline else f"run {self._id}"

    def _start(self, run_id: str | None) -> tuple[Any, str]:
        import wandb

        mode: Any = "offline" if self._offline else "online"
        settings = wandb.Settings(silent=self._offline, console="off")
        place: Any = {**self._arguments, "dir": self.save_dir, "name": self._title, "id": run_id, "resume": "allow"}
        # A sweep trains several runs in one process.
        run = wandb.init(**place, mode=mode, settings=settings, reinit="create_new")
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step")
        self._remove_links_out()
        if self._offline or run_id is None:
            self._repeat_record(run)
        self._files = Path(run.dir).parent
        return run, run.id

    def _repeat_record(self, run: Any) -> None:
        """Log the record of the run folder up to the checkpoint, so that this file is complete.

        Offline, W&B writes another file for each resume, and a killed process may have left its file empty.
        """
        import wandb

        table = self._folder / TABLE
        for row in read_rows(table) if table.is_file() else ():
            run.log({**{name: row[name] for name in row if name != "step"}, "trainer/global_step": int(row["step"])})
        for file in sorted(self._folder.glob("figures/*/step=*.png"), key=lambda path: path.name):
            step = int(file.stem.removeprefix("step="))
            run.log({f"figures/{file.parent.name}": wandb.Image(str(file)), "trainer/global_step": step})

    def _remove_links_out(self) -> None:
        """Remove W&B's link to a log in the user's home: resuming refuses run folders with links that lead out."""
        for link in self._folder.glob("wandb/*/logs/debug-core.log"):
            if link.is_symlink():
                link.unlink()

    def _write_settings(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(settings, allow_val_change=True)

    def _end(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)
        self._remove_links_out()
