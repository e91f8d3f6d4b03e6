"""Adaptation: classifiers trained on styled images and scored on the target."""

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import SmallClassifier, build_classifier
from munitaug.adaptation.conditions import CONDITIONS, Bench, Condition
from munitaug.adaptation.evaluation import check_conditions, evaluate_conditions, load_rows, save_rows
from munitaug.adaptation.fit import BatchOf, FitSettings, OnUpdate, fit, source_batches, styled_batches
from munitaug.adaptation.self_training import estimate_norms, restyled_by, self_train
from munitaug.adaptation.statistics import Row, Summary, render_table, summarise
from munitaug.adaptation.task import Scorer, Task, make_oracle_task, make_task, predict

__all__ = [
    "CONDITIONS",
    "BatchOf",
    "Bench",
    "ClassicAugmentation",
    "Condition",
    "FitSettings",
    "OnUpdate",
    "Row",
    "Scorer",
    "SmallClassifier",
    "Summary",
    "Task",
    "build_classifier",
    "check_conditions",
    "estimate_norms",
    "evaluate_conditions",
    "fit",
    "load_rows",
    "make_oracle_task",
    "make_task",
    "predict",
    "render_table",
    "restyled_by",
    "save_rows",
    "self_train",
    "source_batches",
    "styled_batches",
    "summarise",
]
