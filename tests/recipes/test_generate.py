"""An augmented file from a checkpoint, and what it says about where it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from munitaug._version import __version__
from munitaug.checkpoint import checkpoint_sha256, load_method
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.recipes import generate
from tests.runs import toy_domain

ROOT = Path(__file__).resolve().parents[2]


def run(tiny_run: Path, out: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {"variants": 2, "device": "cpu", "progress": False}
    return generate(tiny_run, toy_domain("shapes", 5), out, **(arguments | changes))  # type: ignore[arg-type]


def test_every_variant_stands_beside_its_label(tiny_run: Path, tmp_path: Path) -> None:
    augmented = AugmentedDataset(run(tiny_run, tmp_path / "deep" / "aug.h5"))
    assert len(augmented) == 10
    assert augmented.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    image, label = augmented[3]
    assert (image.shape, image.dtype, int(label)) == ((1, 16, 16), torch.uint8, 1)


def test_provenance_names_method_settings_and_source(tiny_run: Path, tmp_path: Path) -> None:
    augmented = AugmentedDataset(run(tiny_run, tmp_path / "aug.h5", style="bank", truncation=0.5, direction="b2a"))
    assert augmented.provenance["munitaug_version"] == __version__
    assert augmented.provenance["checkpoint_sha256"] == checkpoint_sha256(tiny_run)
    provenance = augmented.provenance["config"]
    assert isinstance(provenance, dict)
    assert provenance["method"] == "munit"
    assert (provenance["direction"], provenance["style"], provenance["truncation"]) == ("b2a", "bank", 0.5)
    assert provenance["source"] == "shapes"
    assert provenance["training"]["training"]["max_steps"] == 4


def test_styles_of_the_bank_are_codes_of_target_images(tiny_run: Path, tmp_path: Path) -> None:
    augmented = AugmentedDataset(run(tiny_run, tmp_path / "aug.h5", style="bank"))
    bank = load_method(tiny_run).style_banks["b"]
    for row in range(len(augmented)):
        assert float((bank - augmented.style(row)).abs().amax(dim=1).min()) < 1e-6


def test_originals_are_kept_untouched_when_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    augmented = AugmentedDataset(run(tiny_run, tmp_path / "aug.h5", keep_original=True))
    assert len(augmented) == 15
    assert torch.equal(augmented[3][0], toy_domain("shapes", 5)[1][0])


def test_an_existing_file_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    path = run(tiny_run, tmp_path / "aug.h5")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        run(tiny_run, path, seed=1)
    assert path.read_bytes() == before
    run(tiny_run, path, seed=1, overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": "random"}, "style must be one of prior, bank, mixture"),
        ({"direction": "b2b"}, 'direction must be "a2b" or "b2a"'),
        ({"device": "tpu"}, "device must be"),
        ({"variants": 0}, "variants"),
    ],
)
def test_wrong_settings_are_refused_without_a_trace(
    tiny_run: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tiny_run, tmp_path / "aug.h5", **changes)
    assert list(tmp_path.iterdir()) == []


def test_processes_of_torchrun_share_the_shards(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_run, tmp_path / "alone" / "aug.h5", shards=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert not (tmp_path / "both" / "aug.h5").exists()
        run(tiny_run, tmp_path / "both" / "aug.h5", shards=3)
    alone, both = ({file.name: file.read_bytes() for file in (tmp_path / who).iterdir()} for who in ("alone", "both"))
    assert sorted(alone) == ["aug-00000-of-00003.h5", "aug-00001-of-00003.h5", "aug-00002-of-00003.h5", "aug.h5"]
    assert alone == both


def test_one_file_is_not_written_by_several_processes(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(BlockingIOError, match=r"this is process 1 of 2 .* give shards \(--shards 64\)"):
        run(tiny_run, tmp_path / "aug.h5")
    monkeypatch.setenv("RANK", "0")
    run(tiny_run, tmp_path / "aug.h5")


def test_a_rank_that_is_no_number_is_refused(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ValueError, match="RANK in the environment must be a number, got 'first'"):
        run(tiny_run, tmp_path / "aug.h5", shards=2)
    run(tiny_run, tmp_path / "aug.h5")  # without shards there is nothing to share


@pytest.mark.slow
def test_the_command_line_under_torchrun(tiny_run: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--input", "synthetic-digits:train:20", "--size", "16", "--shards", "3", "--device", "cpu"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (("alone", []), ("both", launcher)):
        command = [sys.executable, *start, "-m", "munitaug", "generate", str(tiny_run), *words]
        out = str(tmp_path / name / "aug.h5")
        subprocess.run([*command, "--out", out], env=environment, check=True, capture_output=True, timeout=110)
    alone, both = ({file.name: file.read_bytes() for file in (tmp_path / who).iterdir()} for who in ("alone", "both"))
    assert len(alone) == 4
    assert alone == both


def test_half_precision_is_nearly_the_same_and_is_told(tiny_run: Path, tmp_path: Path) -> None:
    plain, half = (
        AugmentedDataset(run(tiny_run, tmp_path / f"{precision}.h5", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    differences = torch.stack([(plain[row][0].int() - half[row][0].int()).abs() for row in range(len(plain))])
    assert 0 < int(differences.max()) <= 16
    config = half.provenance["config"]
    assert isinstance(config, dict)
    assert config["precision"] == "bfloat16"


def test_compiled_generation_writes_the_same_and_is_told(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda way, **_: way)
    monkeypatch.setenv("CXX", sys.executable)  # some program that is there
    plain, compiled = (
        AugmentedDataset(run(tiny_run, tmp_path / f"{choice}.h5", compile=choice)) for choice in (False, True)
    )
    for row in range(len(plain)):
        assert torch.equal(compiled[row][0], plain[row][0])
    config = compiled.provenance["config"]
    assert isinstance(config, dict)
    assert config["compiled"] is True
