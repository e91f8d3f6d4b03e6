"""What a checkpoint says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from munitaug._version import __version__
from munitaug.checkpoint import load_method
from munitaug.files import sha256_of
from munitaug.recipes import checkpoint_facts
from munitaug.types import CheckpointError


def test_facts_are_those_of_the_run(tiny_run: Path) -> None:
    facts = checkpoint_facts(tiny_run)
    assert facts == checkpoint_facts(tiny_run / "checkpoint")
    assert facts.folder == tiny_run / "checkpoint"
    assert (facts.method, facts.channels, facts.style_dim, facts.size_multiple) == ("munit", 1, 3, 4)
    assert facts.style_bank_sizes == {"a": 12, "b": 12}
    (weights,) = (tiny_run / "checkpoint").glob("weights-*.safetensors")
    assert facts.sha256 == sha256_of(weights)
    assert facts.config == json.loads((tiny_run / "config.json").read_text())["config"]
    assert facts.provenance["source"]["name"] == "source"
    assert facts.provenance["source"]["images"] == 12
    assert facts.provenance["versions"]["munitaug"] == __version__


def test_parameters_are_counted(tiny_run: Path) -> None:
    facts, method = checkpoint_facts(tiny_run), load_method(tiny_run)
    sizes = {name: value.numel() for name, value in method.named_parameters()}
    assert facts.all_parameters == sum(sizes.values())
    assert facts.translator_parameters < facts.all_parameters
    assert facts.translator_parameters <= sum(size for name, size in sizes.items() if "auto_encoders" in name)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist: give the checkpoint folder that munitaug train wrote"):
        checkpoint_facts(tmp_path / "nothing")
