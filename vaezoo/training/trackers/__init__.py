"""Experiment trackers, Weights & Biases and MLflow, as loggers of a run: kept in its folder, resumed with it."""

from vaezoo.training.trackers.mlflow_logger import MLFlowLogger
from vaezoo.training.trackers.tracker import Tracker, closing, fill, open_all
from vaezoo.training.trackers.wandb_logger import WandbLogger

__all__ = ["MLFlowLogger", "Tracker", "WandbLogger", "closing", "fill", "open_all"]
