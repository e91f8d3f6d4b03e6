"""What is done under ``torch.set_default_device("cuda")`` is what is done without it.

"meta" stands for a GPU: it takes no draw of the CPU's generator either, and holds no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import munitaug
from munitaug.adaptation import SmallClassifier, build_classifier
from tests.runs import TINY_FIT, TINY_TRAINING, toy_domain


@contextmanager
def elsewhere_by_default() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.fixture
def checkpoint(tiny_run: Path) -> Path:
    return tiny_run / "checkpoint"


def test_domains_are_opened() -> None:
    pytest.importorskip("sklearn")
    with elsewhere_by_default():
        domain = munitaug.open_domain("digits:train", size=16)
    assert domain.require_labels().device.type == domain[0][0].device.type == "cpu"


def test_conditions_are_evaluated(tmp_path: Path) -> None:
    source, target, test = (toy_domain(name, 12, seed) for seed, name in enumerate(("source", "target", "test")))
    options: dict[str, Any] = {"conditions": ["classic"], "seeds": 1, "fit": TINY_FIT, "processes": 1}
    expected = munitaug.evaluate(source, target, tmp_path / "before.json", test=test, **options)
    with elsewhere_by_default():
        rows = munitaug.evaluate(source, target, tmp_path / "rows.json", test=test, **options)
    assert rows == expected


def test_a_classifier_is_adapted(tmp_path: Path) -> None:
    source, target = toy_domain("source"), toy_domain("target", seed=1)
    fit = replace(TINY_FIT, starts=1, start_steps=2, refine_steps=2)
    with elsewhere_by_default():
        munitaug.adapt(source, target, tmp_path / "run", training=replace(TINY_TRAINING, max_steps=2), fit=fit)
    assert munitaug.load_classifier(tmp_path / "run")(source.images([0]).float() / 127.5 - 1.0).isfinite().all()


def test_labels_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    judge, domain = build_classifier("lenet", 1, 3, 0), toy_domain()
    with elsewhere_by_default():
        report = munitaug.label_preservation(checkpoint, domain, tmp_path / "labels.json", judge=judge, variants=2)
    assert sum(map(sum, report.translated.counts)) == 24


def test_translations_are_measured(checkpoint: Path) -> None:
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0
    judge = build_classifier("lenet", 1, 3, 0).eval()
    assert isinstance(judge, SmallClassifier)
    translator = munitaug.shared_translator(checkpoint)
    found = []
    for device in (nullcontext(), elsewhere_by_default()):
        generator = torch.Generator().manual_seed(0)
        with device:
            measured = munitaug.measure_translation(
                translator, images, images, judge.features, name="lenet", generator=generator
            )
        found.append([metric.value for metric in measured])
    assert found[0] == found[1]


def test_a_graph_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    with elsewhere_by_default():
        munitaug.export_translator(checkpoint, tmp_path / "graph.pt2", size=16)
    assert (tmp_path / "graph.pt2").exists()
