"""The conditions of the digit benchmark by name, in the order of its table."""

from __future__ import annotations

from benchmarks.conditions import plain, self_training
from benchmarks.conditions.adabn import adabn
from benchmarks.conditions.base import Cell, ConditionFunction
from benchmarks.conditions.cogan import cogan
from benchmarks.conditions.coral import coral
from benchmarks.conditions.dann import dann
from benchmarks.conditions.dtn import dtn
from benchmarks.conditions.references import fda, histogram, pixel_distribution
from benchmarks.conditions.styled import STYLED
from benchmarks.conditions.subspace import subspace

CONDITIONS: dict[str, ConditionFunction] = {
    "source": plain.source,
    "classic": plain.classic,
    "fda": fda,
    "histogram": histogram,
    "pixel-distribution": pixel_distribution,
    "adabn": adabn,
    "subspace": subspace,
    "dann": dann,
    "coral": coral,
    "cogan": cogan,
    "dtn": dtn,
    **STYLED,
    "self-training-im": self_training.information_alone,
    "self-training-fixmatch": self_training.consistency_alone,
    "self-training-in-turn": self_training.in_turn,
    "self-training": self_training.self_training,
    "self-training-restarts": self_training.restarts,
    "adapt-restyled": self_training.restyled_alone,
    "adapt": self_training.adapted("munit"),
    "oracle": plain.oracle,
}
USUAL = ("source", "classic", "munit-semantic", "self-training", "self-training-restarts", "adapt", "oracle")

__all__ = ["CONDITIONS", "USUAL", "Cell", "ConditionFunction"]
