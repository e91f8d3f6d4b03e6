"""Run folders: begun once, resumed with the same settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from munitaug.checkpoint import save_method
from munitaug.methods import MultiDomain, MultiDomainConfig, Munit
from munitaug.recipes.options import DataOptions, domain_facts, refuse_existing_run, start_run
from munitaug.types import CheckpointError, DomainError
from tests.tiny import TINY

FACTS = {"method": "munit", "training": {"seed": 0, "betas": (0.5, 0.9)}}


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    start_run(tmp_path / "deep" / "run", FACTS, resume=False)
    written = json.loads((tmp_path / "deep" / "run" / "config.json").read_text())
    assert written == {"method": "munit", "training": {"seed": 0, "betas": [0.5, 0.9]}}


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    start_run(tmp_path, FACTS, resume=False)
    assert (tmp_path / "config.json").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already; continue it with --resume, or choose another --out"):
        start_run(tmp_path, FACTS, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError, match="run exists already"):
        refuse_existing_run(tmp_path / "run")


def test_the_same_settings_may_be_resumed(tmp_path: Path) -> None:
    start_run(tmp_path, FACTS, resume=False)
    before = (tmp_path / "config.json").read_bytes()
    start_run(tmp_path, FACTS, resume=True)
    assert (tmp_path / "config.json").read_bytes() == before


def test_every_changed_setting_is_named(tmp_path: Path) -> None:
    start_run(tmp_path, FACTS, resume=False)
    changed = {"method": "munit", "training": {"seed": 1, "betas": (0.5, 0.99)}, "flip": True}
    with pytest.raises(CheckpointError) as refused:
        start_run(tmp_path, changed, resume=True)
    assert "flip was None, now True" in str(refused.value)
    assert "training.seed was 0, now 1" in str(refused.value)
    assert "training.betas was [0.5, 0.9], now [0.5, 0.99]" in str(refused.value)
    assert "method" not in str(refused.value)


def test_nothing_to_resume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no run to resume \(config.json is missing\)"):
        start_run(tmp_path / "nothing", FACTS, resume=True)
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is not JSON .* the run is damaged"):
        start_run(tmp_path, FACTS, resume=True)


def test_options_reach_the_domain() -> None:
    options = DataOptions(channels=1, size=20)
    plain, inverted = (options.open("synthetic-digits:train:3", invert=flag) for flag in (False, True))
    assert plain.images([0]).shape == (1, 1, 20, 20)
    assert float((plain.images([0]).float() + inverted.images([0]).float()).sub(255.0).abs().max()) <= 1.0


def test_a_domain_is_opened_by_its_path_and_given_back_as_it_is(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 10).save(tmp_path / "a.png")
    options = DataOptions(invert_target=True)
    source, target = options.open_source(tmp_path), options.open_target(tmp_path)
    assert (int(source[0][0].max()), int(target[0][0].max())) == (10, 245)
    assert (source.name, options.open_target(source)) == (str(tmp_path), source)
    with pytest.raises(TypeError, match="got list"):
        options.open_source([tmp_path])  # type: ignore[arg-type]


def test_data_root_reaches_the_domain(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=str(tmp_path)):
        DataOptions(data_root=str(tmp_path)).open("usps:train")


@pytest.mark.parametrize("kept", [{}, {"size": [64, 64]}, {"size": "64"}, {"size": True}, {"size": 0}, {"size": 10**6}])
def test_what_others_wrote_into_a_checkpoint_is_no_size(kept: dict[str, object], tmp_path: Path) -> None:
    save_method(Munit(TINY), tmp_path / "checkpoint", kept)
    data = DataOptions().like(tmp_path / "checkpoint")
    assert (data.size, data.channels) == (None, TINY.channels)


def test_a_checkpoint_gives_channels_and_size_that_are_left_open(tmp_path: Path) -> None:
    save_method(Munit(TINY), tmp_path / "checkpoint", {"size": 20})
    assert DataOptions(invert_source=True).like(tmp_path) == DataOptions(3, 20, True, False)
    assert DataOptions(channels=1, size=32).like(tmp_path / "checkpoint") == DataOptions(1, 32, False, False)


def test_a_checkpoint_gives_the_polarity_of_its_training(tmp_path: Path) -> None:
    """Of either direction, and of named domains, of which the first is the source; what is said decides."""
    domains = replace(MultiDomainConfig.preset("small"), domains=("x", "y", "z"))
    kept = {"source": {"inverted": True}, "target": {"name": "night"}}
    save_method(Munit(TINY), tmp_path / "two", kept)
    save_method(MultiDomain(domains), tmp_path / "several", kept)
    for checkpoint, direction, polarity in (
        ("two", "a2b", (True, False)),
        ("two", "b2a", (False, True)),
        ("several", "a2b", (True, False)),
        ("several", "z:x", (False, True)),
        ("several", "y:z", (False, False)),
    ):
        data = DataOptions().like(tmp_path / checkpoint, direction)
        assert (data.invert_source, data.invert_target) == polarity
    assert DataOptions(invert_source=False).like(tmp_path / "two").invert_source is False
    assert DataOptions(invert_target=True).like(tmp_path / "two").invert_target is True


@pytest.mark.parametrize("spec", ["folder", "synthetic-digits:train:3", "digits:train:3"])
def test_a_domain_says_whether_it_was_inverted(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Image.new("L", (16, 16), 10).save("folder/a.png")
    for inverted in (False, True):
        domain = DataOptions(size=16, invert_source=inverted).open_source(spec)
        assert domain.inverted == inverted
        assert domain_facts(domain).get("inverted", False) == inverted


def test_where_there_is_no_checkpoint_nothing_is_like_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint"):
        DataOptions().like(tmp_path)
