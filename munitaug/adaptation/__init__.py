"""Adaptation: classifiers trained on styled images and scored on the target."""

from munitaug.adaptation.augmentation import ClassicAugmentation
from munitaug.adaptation.classifier import SmallClassifier, build_classifier
from munitaug.adaptation.conditions import CONDITIONS, Bench, Condition
from munitaug.adaptation.evaluation import check_conditions, evaluate_conditions, load_rows, save_rows
from munitaug.adaptation.fit import BatchOf, FitSettings, OnUpdate, fit, in_fresh_styles, source_batches, styled_batches
from munitaug.adaptation.self_training import estimate_norms, self_train
from munitaug.adaptation.stages import Once, OnStage, adapt, choose, fit_labelled, refine, self_trained
from munitaug.adaptation.statistics import Row, Summary, render_table, summarise
from munitaug.adaptation.task import Scorer, Task, make_oracle_task, make_task, predict
from munitaug.adaptation.validators import (
    VALIDATORS,
    Evidence,
    Validator,
    collect_evidence,
    select,
    selection_regret,
)

__all__ = [
    "CONDITIONS",
    "VALIDATORS",
    "BatchOf",
    "Bench",
    "ClassicAugmentation",
    "Condition",
    "Evidence",
    "FitSettings",
    "OnStage",
    "OnUpdate",
    "Once",
    "Row",
    "Scorer",
    "SmallClassifier",
    "Summary",
    "Task",
    "Validator",
    "adapt",
    "build_classifier",
    "check_conditions",
    "choose",
    "collect_evidence",
    "estimate_norms",
    "evaluate_conditions",
    "fit",
    "fit_labelled",
    "in_fresh_styles",
    "load_rows",
    "make_oracle_task",
    "make_task",
    "predict",
    "refine",
    "render_table",
    "save_rows",
    "select",
    "selection_regret",
    "self_train",
    "self_trained",
    "source_batches",
    "styled_batches",
    "summarise",
]
