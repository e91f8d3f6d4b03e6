"""The method that docs/adding-a-method.md builds, taken from the page: it trains, resumes, translates and is saved."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import munitaug
from munitaug.training import Trainer
from tests.tiny import TINY_TRAINING, tiny_domain, tiny_loader, tiny_pair

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-method.md"
MODULE = "refiner_of_the_page"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Gives the page's code blocks as one module, its method registered."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)  # dataclasses look their module up
    exec(compile("\n\n".join(blocks), str(PAGE), "exec"), vars(module))
    monkeypatch.setitem(munitaug.METHODS, "refiner", module.Refiner)
    return module


def tiny(page: ModuleType, seed: int = 0) -> Any:
    return page.Refiner(page.RefinerConfig(width=4, n_residual=1), seed=seed)


def test_its_phases_cover_each_weight_once(page: ModuleType) -> None:
    method = tiny(page)
    covered = Counter(id(p) for phase in method.phases() for module in phase.modules for p in module.parameters())
    assert covered == Counter(id(parameter) for parameter in method.parameters())


def test_a_resumed_run_is_the_same_run(page: ModuleType, tmp_path: Path) -> None:
    def trained(folder: Path, steps: int, seed: int, resume: bool) -> dict[str, torch.Tensor]:
        config = munitaug.TrainConfig(**{**vars(TINY_TRAINING), "max_steps": steps})
        return Trainer(tiny(page, seed), tiny_loader(config), config, folder).run(resume, progress=False).state_dict()

    whole = trained(tmp_path / "whole", 4, seed=0, resume=False)
    trained(tmp_path / "parts", 2, seed=0, resume=False)
    resumed = trained(tmp_path / "parts", 4, seed=9, resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert not all(torch.equal(value, tiny(page).state_dict()[name]) for name, value in whole.items())


def test_training_previewing_and_transforming_know_it(page: ModuleType, tmp_path: Path) -> None:
    a, b = tiny_domain("a", 1), tiny_domain("b", 2)
    run = tmp_path / "run"
    training = munitaug.TrainConfig(**{**vars(TINY_TRAINING), "max_steps": 2})
    munitaug.train(a, b, run, method="refiner", preset="small", training=training, progress=False)
    assert munitaug.checkpoint_facts(run).directions == ("a2b",)
    assert munitaug.preview(run, a, tmp_path / "sheet.png", columns=3, device="cpu").is_file()
    image = tiny_pair().a[0] * 0.5 + 0.5
    out = munitaug.MUNITTransform(run)(image)
    assert out.shape == image.shape
    assert not torch.equal(out, image)
    with pytest.raises(ValueError, match="a2b"):
        munitaug.MUNITTransform(run, direction="b2a")


def test_what_cannot_be_is_refused(page: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        page.RefinerConfig(width=0)
    with pytest.raises(ValueError, match="preset must be"):
        page.RefinerConfig.preset("huge")
    with pytest.raises(ValueError, match="a2b only"):
        tiny(page).translator("b", "a")
