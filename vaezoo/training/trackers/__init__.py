"""Experiment trackers, Weights & Biases and MLflow, as loggers that resume with their run."""

from vaezoo.training.trackers.mlflow_logger import MLFlowLogger
from vaezoo.training.trackers.tracker import Tracker, closing, fill, open_all
from vaezoo.training.trackers.wandb_logger import WandbLogger

__all__ = ["MLFlowLogger", "Tracker", "WandbLogger", "closing", "fill", "open_all"]
