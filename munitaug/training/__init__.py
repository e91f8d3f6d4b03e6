"""Training: the loop that knows phases and no method by name."""

from munitaug.training.config import TrainConfig, resolve_device
from munitaug.training.trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "resolve_device"]
