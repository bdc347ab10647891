"""Training curves read from run folders, by step and by time."""

from pathlib import Path

import numpy as np

from vaezoo.comparison.report.charts import Curves
from vaezoo.config.errors import RunError
from vaezoo.runs import RunFolder

QUANTITIES = ("recon", "kl", "-elbo")


def read(path: Path) -> Curves:
    """Curves of recon, KL and their sum, in nats; empty if ``metrics.csv`` is missing or unreadable."""
    try:
        rows = RunFolder(path).metrics
    except RunError:
        return Curves()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        for stage in ("train", "val"):
            for quantity, value in _quantities(row, stage).items():
                found.setdefault((stage, quantity), []).append((row.get("step", 0.0), value))
    series = {key: np.array(points).T for key, points in found.items()}
    return Curves({key: (steps, values) for key, (steps, values) in series.items()}, clock(path))


def _quantities(row: dict[str, float], stage: str) -> dict[str, float]:
    values = {name: row[f"{stage}/{name}"] for name in ("recon", "kl") if f"{stage}/{name}" in row}
    if len(values) == 2:
        values["-elbo"] = values["recon"] + values["kl"]
    return {name: value for name, value in values.items() if np.isfinite(value)}


def clock(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Steps, and the seconds since the start at which they were logged to TensorBoard.

    None if its files are missing or damaged. A resumed run writes another file; the time in between is not counted.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    steps, seconds, before = [0.0], [0.0], 0.0
    files = [file for file in path.glob("events.out.tfevents.*") if file.is_file()]  # opening a pipe would block
    for file in sorted(files, key=lambda file: file.name):
        try:
            times = [(event.step, event.wall_time) for event in EventFileLoader(str(file)).Load()]
        except Exception:  # a damaged file can raise anything; charts by step do not need it
            return None
        if not times:
            continue
        for step, time in times[1:]:
            if step > steps[-1]:
                steps.append(float(step))
                seconds.append(before + time - times[0][1])
        before = seconds[-1]
    return (np.array(steps), np.array(seconds)) if len(steps) > 1 else None
