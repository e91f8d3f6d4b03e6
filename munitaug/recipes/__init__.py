"""The wings put together, as plain functions that read from top to bottom.

Floor 6: imports floors 1-5.
"""

from munitaug.recipes.classifier import train_classifier
from munitaug.recipes.demo import DemoSettings, demo
from munitaug.recipes.evaluate import draw_accuracies, evaluate
from munitaug.recipes.generate import generate
from munitaug.recipes.info import CheckpointFacts, checkpoint_facts
from munitaug.recipes.options import DataOptions
from munitaug.recipes.preview import preview
from munitaug.recipes.train import SemanticOptions, train

__all__ = [
    "CheckpointFacts",
    "DataOptions",
    "DemoSettings",
    "SemanticOptions",
    "checkpoint_facts",
    "demo",
    "draw_accuracies",
    "evaluate",
    "generate",
    "preview",
    "train",
    "train_classifier",
]
