"""Loggers beside the run folder's own files, a file for each. No torch and no logger's package at the top."""

from grow_cli.recording.loggers import mlflow, tensorboard, wandb
from grow_cli.recording.loggers.base import Logger

__all__ = ["Logger", "mlflow", "tensorboard", "wandb"]
