"""What a condition of the digit benchmark is: a function from a cell to a classifier.

A cell is one pair of domains under one seed. Everything that must be equal for all conditions (data, classifier,
steps, classic augmentation) comes from the cell, and target labels are not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

import munitaug
from munitaug.adaptation import FitSettings, Task, build_classifier
from munitaug.random import seed_of

OnSnapshot = Callable[[str, int, nn.Module], None]
"""(stage, finished steps of it, the classifier as it is now): asked for now and then while a classifier trains."""

TrainTranslator = Callable[[str, float], munitaug.Translator]
"""(method name, weight of the label term) -> a translator source -> target of this pair and seed, trained once."""


@dataclass(frozen=True)
class Cell:
    """What a condition is given.

    Args:
        pair: name of the pair, for example "mnist:usps".
        task: labelled source and unlabelled target, both training images, in memory, on the device to be used.
        oracle_task: the target's training images with their labels, for the condition "oracle" alone; None without.
        settings: of the classifier and its training, equal for all conditions.
        seed: decides everything that is drawn.
        folder: of this pair, seed and settings, for what several conditions use.
        translator_of: trains a translator or reads it from the folder.
        restyler_of: gives the translator target -> target of the same method; None of a method that has none.
        on_snapshot: to be called by conditions that train long; never changes the training.
    """

    pair: str
    task: Task
    oracle_task: Task | None
    settings: FitSettings
    seed: int
    folder: Path
    translator_of: TrainTranslator
    restyler_of: Callable[[str, float], munitaug.Translator | None]
    on_snapshot: OnSnapshot

    def new_classifier(self) -> nn.Module:
        """Gives the classifier of all conditions before training, on the device of the images."""
        seed = seed_of(self.seed, "classifier")
        model = build_classifier(self.settings.classifier, self.task.channels, self.task.classes, seed)
        return model.to(self.task.source_images.device)

    def once(self, name: str, train: ConditionFunction) -> nn.Module:
        """Gives a classifier that several conditions start from: trained now, or read from the folder.

        Args:
            name: of its file.
            train: what makes it.
        """
        path = self.folder / f"classifier-{name}.safetensors"
        if path.exists():
            model = self.new_classifier()
            model.load_state_dict(load_file(path))
            return model.eval()
        model = train(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        save_file({key: value.cpu() for key, value in model.state_dict().items()}, temporary)
        temporary.replace(path)
        return model


ConditionFunction = Callable[[Cell], nn.Module]
"""Gives a classifier N x C x H x W in [-1, 1] -> N x classes logits, in evaluation mode.

Raises ImportError, with what to install, when an optional package is missing.
"""
