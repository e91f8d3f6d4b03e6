"""Cells of the digit benchmark on toy images, in which whatever a condition must not ask for fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.conditions.base import Cell
from munitaug.adaptation import FitSettings
from tests.runs import toy_task


class Closed:
    """Stands for the oracle's task: whoever reads anything of it fails."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"target labels were asked for: {name}")


def refuse(*arguments: object) -> NoReturn:
    """Stands for a translator, a restyler or a snapshot that a condition must not ask for."""
    raise AssertionError(f"not wanted, and asked for with {arguments}")


def toy_cell(settings: FitSettings, seed: int = 0, **changes: Any) -> Cell:
    """Gives a cell of the toy pair, without translators and without labels of the target."""
    closed: Any = Closed()
    cell = Cell("toy", toy_task(), closed, settings, seed, Path("unused"), refuse, refuse, refuse)
    return replace(cell, **changes)
