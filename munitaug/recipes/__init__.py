"""The wings put together, as plain functions that read from top to bottom.

Floor 6: imports floors 1-5.
"""

from munitaug.recipes.adapt import Adapted, adapt
from munitaug.recipes.class_bank import class_bank
from munitaug.recipes.classifier import load_classifier, train_classifier
from munitaug.recipes.convert import convert
from munitaug.recipes.demo import DemoSettings, demo
from munitaug.recipes.evaluate import draw_accuracies, evaluate
from munitaug.recipes.export import export_translator
from munitaug.recipes.generate import generate
from munitaug.recipes.hub import from_pretrained, push_to_hub, save_pretrained
from munitaug.recipes.info import CheckpointFacts, checkpoint_facts
from munitaug.recipes.label_report import LabelReport
from munitaug.recipes.labels import label_preservation
from munitaug.recipes.options import DataOptions
from munitaug.recipes.preview import preview
from munitaug.recipes.train import SemanticOptions, train

__all__ = [
    "Adapted",
    "CheckpointFacts",
    "DataOptions",
    "DemoSettings",
    "LabelReport",
    "SemanticOptions",
    "adapt",
    "checkpoint_facts",
    "class_bank",
    "convert",
    "demo",
    "draw_accuracies",
    "evaluate",
    "export_translator",
    "from_pretrained",
    "generate",
    "label_preservation",
    "load_classifier",
    "preview",
    "push_to_hub",
    "save_pretrained",
    "train",
    "train_classifier",
]
