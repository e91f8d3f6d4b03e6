"""Converting other projects' checkpoints: the folder that comes out, its provenance, refusals, the command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import munitaug
from munitaug.interop import formats
from munitaug.types import BOTH_DIRECTIONS, CheckpointError
from tests.interop.official_nvlabs import Files, official_run
from tests.runs import refusal, run_cli
from tests.tiny import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return official_run(tmp_path_factory.mktemp("official"), "munit")


def index_of(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "checkpoint.json").read_text())
    return content


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_folder_is_a_checkpoint_with_the_weights_of_the_file(run: Files, tmp_path: Path) -> None:
    out = munitaug.convert(run.generator, tmp_path / "checkpoint", format="munit", config=run.config)
    assert out == tmp_path / "checkpoint"
    method = munitaug.load(out)
    assert method.name == "munit"
    assert method.directions == BOTH_DIRECTIONS
    for key in "ab":
        found = method.state_dict()[f"auto_encoders.{key}.style_encoder.head.weight"]
        assert torch.equal(found, run.generators[key]["enc_style.model.6.weight"])


def test_provenance_names_format_and_files_by_their_hash(run: Files, tmp_path: Path) -> None:
    files = {"config": run.config, "discriminator": run.discriminator}
    out = munitaug.convert(run.generator, tmp_path / "checkpoint", format="munit", **files)
    assert index_of(out)["provenance"] == {
        "munitaug": munitaug.__version__,
        "converted_from": {
            "format": "munit",
            "files": {
                "generator": {"name": "gen_00000100.pt", "sha256": sha256(run.generator)},
                "config": {"name": "run.yaml", "sha256": sha256(run.config)},
                "discriminator": {"name": "dis_00000100.pt", "sha256": sha256(run.discriminator)},
            },
        },
    }
    assert index_of(out)["directions"] == ["a2b", "b2a"]


@pytest.mark.parametrize("kind", ["munit", "unit"])
def test_files_of_old_pytorch_are_read(kind: str, tmp_path: Path) -> None:
    files = official_run(tmp_path / "official", kind, zipped=False)
    assert (
        munitaug.load(munitaug.convert(files.generator, tmp_path / "out", format=kind, config=files.config)).name
        == kind
    )


def test_a_converted_checkpoint_serves_as_a_transform(run: Files, tmp_path: Path) -> None:
    out = munitaug.convert(run.generator, tmp_path / "checkpoint", format="munit", config=run.config)
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    styled = munitaug.MUNITTransform(out, seed=0)(image)
    assert styled.shape == image.shape
    assert styled.dtype == torch.uint8


@pytest.mark.parametrize("format", ["cyclegan", "cut"])
def test_the_other_formats_have_readers_of_their_own(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def read(*paths: object) -> munitaug.Method:
        calls.append(paths)
        return munitaug.Munit(TINY)

    monkeypatch.setattr(formats, f"read_{format}", read)
    generator, back = tmp_path / "latest_net_G_A.pth", tmp_path / "latest_net_G_B.pth"
    generator.write_bytes(b"A")
    back.write_bytes(b"B")
    extras = {"generator_b": back} if format == "cyclegan" else {}
    munitaug.convert(generator, tmp_path / "out", format=format, **extras)
    assert calls == [(generator, back) if format == "cyclegan" else (generator,)]


def test_an_unknown_format_is_refused(run: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be one of munit, unit, cyclegan, cut, got 'pix2pix'"):
        munitaug.convert(run.generator, tmp_path / "out", format="pix2pix")


@pytest.mark.parametrize(
    ("format", "extra", "message"),
    [
        ("munit", "generator_b", "generator_b belongs to format cyclegan, not to munit"),
        ("cyclegan", "config", "config belongs to format munit, unit, not to cyclegan"),
        ("cut", "discriminator", "discriminator belongs to format munit, unit, not to cut"),
    ],
)
def test_a_file_that_the_format_does_not_have_is_refused(
    run: Files, tmp_path: Path, format: str, extra: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        munitaug.convert(run.generator, tmp_path / "out", format=format, **{extra: run.config})


@pytest.mark.parametrize("present", ["file", "checkpoint", "folder with something"])
def test_what_is_there_already_is_not_overwritten(run: Files, tmp_path: Path, present: str) -> None:
    out = tmp_path / "out"
    if present == "file":
        out.write_text("mine")
    elif present == "checkpoint":
        munitaug.convert(run.generator, out, format="munit", config=run.config)
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="out exists and is not overwritten; choose another folder"):
        munitaug.convert(run.generator, out, format="munit", config=run.config)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_empty_folder_is_filled(run: Files, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (
        munitaug.load(munitaug.convert(run.generator, tmp_path / "out", format="munit", config=run.config)).name
        == "munit"
    )


def test_a_refused_file_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "gen.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as tensors"):
        munitaug.convert(tmp_path / "gen.pt", tmp_path / "out", format="munit")
    assert not (tmp_path / "out").exists()


def test_the_command_converts_and_info_tells_where_it_came_from(run: Files, tmp_path: Path) -> None:
    words = ("--generator", run.generator, "--config", run.config, "--discriminator", run.discriminator)
    outcome = run_cli("convert", "--format", "munit", *words, "--out", tmp_path / "checkpoint")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"checkpoint: {tmp_path / 'checkpoint'}\n"
    info = run_cli("info", tmp_path / "checkpoint")
    assert info.code == 0
    assert "method: munit" in info.out
    assert sha256(run.generator) in info.out


def test_mistakes_on_the_command_line_take_one_line(run: Files, tmp_path: Path) -> None:
    words = ("convert", "--generator", run.generator, "--out", tmp_path / "out", "--format")
    assert "format must be one of munit, unit" in refusal(*words, "gan")
    assert "it is a MUNIT generator (format munit)" in refusal(*words, "unit")
    assert "nowhere.yaml does not exist" in refusal(*words, "munit", "--config", tmp_path / "nowhere.yaml")
