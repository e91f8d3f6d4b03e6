"""What a user reads when the input is bad: one line that names the trouble and the way out, exit code 2."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import munitaug
from munitaug.checkpoint import index_sha256
from munitaug.files import only_writer_of, sha256_of
from munitaug.offline import parts
from tests.runs import TINY_MODEL, refusal, run_cli

SPEC = "synthetic-digits:train:20"
SIZE = ("--size", "16")
KEPT = ("evaluate", "--label-preservation", "--checkpoint")


def write_image(file: Path, mode: str = "RGB", size: tuple[int, int] = (20, 18)) -> Path:
    bands = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    pixels = np.random.default_rng(len(file.name)).integers(0, 256, size[0] * size[1] * bands, dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes(mode, size, pixels.tobytes()).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four grey pictures."""
    for number in range(4):
        write_image(tmp_path / "photos" / f"{number}.png", "L")
    return tmp_path / "photos"


def train_words(source: Path | str, target: Path | str, out: Path) -> tuple[str | Path, ...]:
    steps = ("--training.max_steps", "1", "--training.batch_size", "2", "--training.device", "cpu")
    return ("train", "--source", source, "--target", target, "--out", out, "--model", TINY_MODEL, *steps)


def test_empty_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(*train_words(tmp_path / "empty", photos, tmp_path / "run"))
    assert f"{tmp_path / 'empty'} holds no image; expected" in message
    assert not (tmp_path / "run").exists()


def test_missing_folder(photos: Path, tmp_path: Path) -> None:
    message = refusal(*train_words(photos, tmp_path / "nothing", tmp_path / "run"))
    assert "no folder of that name exists, and the known names are mnist, usps" in message


def test_pictures_are_not_written_among_the_images(photos: Path, tiny_run: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes"
    for number in range(6):
        write_image(classes / "ab"[number % 2] / f"{number}.png", "L")
    train = train_words(classes, photos, photos / "deep" / "run")
    data = ("--source", classes, "--target", photos, *SIZE)
    before = sorted(tmp_path.rglob("*"))
    for words in (
        (*train, *SIZE),
        ("adapt", *data, "--out", classes / "run"),
        ("preview", tiny_run, "--input", classes, *SIZE, "--out", classes / "a" / "sheet.png"),
        ("preview", tiny_run, "--input", classes, "--target", photos, *SIZE, "--out", photos / "sheet.png"),
        (*KEPT, tiny_run, "--source", classes, "--judge", classes, *SIZE, "--out", classes / "labels.json"),
    ):
        assert "whose images are in use: its pictures would be taken for more of them" in refusal(*words), words
    assert sorted(tmp_path.rglob("*")) == before
    assert run_cli(*train_words(classes, photos, photos / ".runs" / "run"), *SIZE).code == 0


def test_a_way_that_is_none_is_said_at_once(photos: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for place, message in (("link", "is a link to"), ("file/deep", "is a file, so"), ("link/deep", "is a link to")):
        out = tmp_path / place
        for words in (
            (*train_words(photos, photos, out), *SIZE),
            ("adapt", "--source", SPEC, "--target", photos, *SIZE, "--out", out),
            ("generate", tiny_run, "--input", photos, *SIZE, "--out", out),
            ("preview", tiny_run, "--input", photos, *SIZE, "--out", out),
            (*KEPT, tiny_run, "--source", SPEC, "--judge", SPEC, *SIZE, "--out", out),
            ("export", tiny_run, *SIZE, "--format", "torch-export", "--out", out),
            ("evaluate", "--source", SPEC, "--target", photos, "--test", SPEC, *SIZE, "--out", out),
            ("demo", "--out", out),
        ):
            assert message in refusal(*words), (words, place)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_broken_jpeg_is_named_and_can_be_skipped(photos: Path, tmp_path: Path) -> None:
    broken = write_image(photos / "broken.jpg", "L")
    broken.write_bytes(broken.read_bytes()[:200])
    words = (*train_words(photos, photos, tmp_path / "run"), *SIZE)
    message = refusal(*words)
    assert "1 of 5 images cannot be read" in message
    assert str(broken) in message
    assert "leave them out with --skip-unreadable" in message
    outcome = run_cli(*words, "--skip-unreadable")
    assert outcome.code == 0, outcome.err
    assert "munitaug: warning: left out 1 of 5 images" in outcome.err
    assert str(broken) in outcome.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["source"]["images"] == 4


def test_one_pixel_image(photos: Path, tmp_path: Path) -> None:
    tiny = write_image(photos / "tiny.png", "L", (1, 1))
    message = refusal(*train_words(photos, photos, tmp_path / "run"), *SIZE)
    assert str(tiny) in message
    assert "1 x 1 px carries no picture; remove the file" in message


def test_small_image(photos: Path, tmp_path: Path) -> None:
    write_image(photos / "small.png", "L", (12, 30))
    message = refusal(*train_words(photos, photos, tmp_path / "run"))
    assert "12 x 30 px (width x height), but networks need sides of at least 16 px" in message
    assert "--size" in message


def test_cmyk_image(photos: Path, tmp_path: Path) -> None:
    printed = write_image(photos / "printed.tif", "CMYK")
    message = refusal(*train_words(photos, photos, tmp_path / "run"), *SIZE)
    assert str(printed) in message
    assert "colour mode CMYK" in message
    assert "convert it to 8-bit RGB or grey first" in message


def test_pictures_of_measurements(photos: Path, tmp_path: Path) -> None:
    measured = photos / "measured.tif"
    Image.fromarray(np.linspace(0.0, 1.0, 400, dtype=np.float32).reshape(20, 20)).save(measured)
    message = refusal(*train_words(photos, photos, tmp_path / "run"), *SIZE)
    assert str(measured) in message
    assert "colour mode F" in message
    assert "scale its values to 0 to 255" in message
    assert "convert('RGB')" not in message


def test_16_bit_images_are_taken(tiny_run: Path, tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 20 * 20).astype(np.uint16).reshape(20, 20)
    (tmp_path / "deep").mkdir()
    Image.fromarray(levels).save(tmp_path / "deep" / "0.png")
    words = ("--input", tmp_path / "deep", "--variants", "1", "--keep-original", "--out", tmp_path / "aug.h5")
    assert run_cli("generate", tiny_run, *words).code == 0
    kept, _ = munitaug.AugmentedDataset(tmp_path / "aug.h5")[0]
    assert np.abs(kept[0].numpy().astype(int) - levels / 257.0).max() <= 1.0


def test_channels_that_differ(photos: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "colour" / "0.png", "RGB")
    message = refusal(*train_words(tmp_path / "colour", photos, tmp_path / "run"))
    assert "colour has 3 channels" in message
    assert "photos has 1; give one count for both, for example --channels 3" in message


def test_channels_that_differ_within_a_folder(photos: Path, tmp_path: Path) -> None:
    write_image(photos / "colour.png", "RGB")
    message = refusal(*train_words(photos, photos, tmp_path / "run"))
    assert "differ in channels" in message
    assert "--channels 3" in message


def test_unknown_domain(tmp_path: Path) -> None:
    message = refusal(*train_words("mnits:train", "digits:train", tmp_path / "run"))
    assert "no domain 'mnits:train'" in message
    assert "did you mean mnist?" in message


def test_unknown_split(tmp_path: Path) -> None:
    message = refusal(*train_words("mnist:validation", "digits:train", tmp_path / "run"))
    assert "expected mnist, mnist:train or mnist:test" in message


def test_missing_svhn_file(tmp_path: Path) -> None:
    words = train_words("svhn:train", "synthetic-digits:train:4", tmp_path / "run")
    message = refusal(*words, "--data-root", tmp_path / "files")
    assert "train_32x32.mat" in message
    assert str(tmp_path / "files") in message
    assert "munitaug downloads nothing" in message
    assert "--data-root" in message


@pytest.fixture
def checkpoint(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(tiny_run / "checkpoint", tmp_path / "checkpoint"))


def weights_of(checkpoint: Path) -> Path:
    (file,) = checkpoint.glob("weights-*.safetensors")
    return file


def use(checkpoint: Path, out: Path) -> list[tuple[str | Path, ...]]:
    """Every command that reads a checkpoint."""
    images = ("--input", SPEC, *SIZE, "--out", out)
    domains = ("--source", SPEC, "--target", "synthetic-digits:test:20", "--test", SPEC, *SIZE)
    return [
        ("info", checkpoint),
        ("preview", checkpoint, *images),
        ("generate", checkpoint, *images),
        ("evaluate", "--checkpoint", checkpoint, *domains, "--out", out),
    ]


def test_truncated_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    file = weights_of(checkpoint)
    file.write_bytes(file.read_bytes()[:-100])
    for words in use(checkpoint, tmp_path / "out"):
        message = refusal(*words)
        assert str(file) in message
        assert "it is truncated or replaced" in message
    assert not (tmp_path / "out").exists()


def test_damaged_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    file = weights_of(checkpoint)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for words in use(checkpoint, tmp_path / "out"):
        assert "does not have the SHA-256 that checkpoint.json states" in refusal(*words)


def test_checkpoint_of_another_format_version(checkpoint: Path, tmp_path: Path) -> None:
    index = json.loads((checkpoint / "checkpoint.json").read_text())
    (checkpoint / "checkpoint.json").write_text(json.dumps(index | {"format_version": 99}))
    for words in use(checkpoint, tmp_path / "out"):
        message = refusal(*words)
        assert "has checkpoint format version 99" in message
        assert "reads version 1; use the munitaug that wrote it" in message


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.fixture(params=["pickle", "torch.save"])
def pickled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bytes, Path]:
    """The bytes of a trap, and the file that it would make."""
    marker, file = tmp_path / "sprung", tmp_path / "trap.pt"
    if request.param == "pickle":
        file.write_bytes(pickle.dumps(Trap(marker)))
    else:
        torch.save(Trap(marker), file)
    return file.read_bytes(), marker


def test_the_trap_works(pickled: tuple[bytes, Path], tmp_path: Path) -> None:
    if pickled[0].startswith(b"\x80"):
        pickle.loads(pickled[0])
    else:
        torch.load(tmp_path / "trap.pt", weights_only=False)
    assert pickled[1].exists()


def test_a_pickle_given_as_checkpoint_is_never_unpickled(pickled: tuple[bytes, Path], tmp_path: Path) -> None:
    for words in use(tmp_path / "trap.pt", tmp_path / "out"):
        assert "is a pickle (torch.save), which can run any code when it is read" in refusal(*words)
    assert not pickled[1].exists()


def test_a_pickle_in_place_of_the_weights_is_never_unpickled(
    pickled: tuple[bytes, Path], checkpoint: Path, tmp_path: Path
) -> None:
    file = weights_of(checkpoint)
    file.write_bytes(pickled[0])
    index = json.loads((checkpoint / "checkpoint.json").read_text())
    index["weights"] |= {"sha256": sha256_of(file), "bytes": len(pickled[0])}
    index["index_sha256"] = index_sha256(index)
    (checkpoint / "checkpoint.json").write_text(json.dumps(index))
    for words in use(checkpoint, tmp_path / "out"):
        assert "is not a safetensors file" in refusal(*words)
    assert not pickled[1].exists()


def test_a_pickle_in_place_of_the_state_is_never_unpickled(
    pickled: tuple[bytes, Path], photos: Path, tmp_path: Path
) -> None:
    words = (*train_words(photos, photos, tmp_path / "run"), *SIZE)
    assert run_cli(*words).code == 0
    (tmp_path / "run" / "state" / "state.safetensors").write_bytes(pickled[0])
    assert "is not a whole state file" in refusal(*words, "--resume")
    assert not pickled[1].exists()


def test_full_disk_during_generation_loses_nothing(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def columns(path: Path) -> dict[str, object]:
        with h5py.File(path) as file:
            return {name: file[name][:].tolist() for name in file}

    words = ("--input", SPEC, *SIZE, "--variants", "2", "--batch-size", "5")
    assert run_cli("generate", tiny_run, *words, "--out", tmp_path / "whole.h5").code == 0

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    out = tmp_path / "aug.h5"
    with monkeypatch.context() as patched:
        patched.setattr(parts.PartsFolder, "merge", lambda self, should_stop=None: full(self.output, b""))
        message = refusal_after_bar("generate", tiny_run, *words, "--out", out)
    assert f"{out}: disk full: 40 of 40 images are safe in {out}.parts" in message
    assert "free space and run the same command again" in message
    assert not out.exists()
    kept = {file.name: file.read_bytes() for file in (tmp_path / "aug.h5.parts").glob("part-*.h5")}
    assert kept
    assert run_cli("generate", tiny_run, *words, "--out", out).code == 0
    assert columns(out) == columns(tmp_path / "whole.h5")
    assert not (tmp_path / "aug.h5.parts").exists()


def test_corrupted_shard_is_named(tiny_run: Path, tmp_path: Path) -> None:
    out, shard = tmp_path / "aug.h5", tmp_path / "aug-00001-of-00003.h5"
    assert run_cli("generate", tiny_run, "--input", SPEC, *SIZE, "--shards", "3", "--out", out).code == 0
    content = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        content[file["images"].id.get_chunk_info(2).byte_offset] ^= 1
    shard.write_bytes(content)
    message = refusal_after_bar("export-data", out, "--out", tmp_path / "images")
    assert f"{shard} is damaged: image 2 is not what was written; copy or generate the file again" in message
    shard.write_bytes(content[:-9])
    message = refusal("export-data", out, "--out", tmp_path / "images")
    assert f"the shard {shard} has {len(content) - 9} bytes, but its index says {len(content)}" in message
    shard.unlink()
    assert f"the shard {shard} is not there" in refusal("export-data", out, "--out", tmp_path / "images")
    assert not (tmp_path / "images").exists()


def refusal_after_bar(*words: str | Path) -> str:
    """Gives the last line of a command that fails after its progress bar."""
    outcome = run_cli(*words)
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("munitaug: error: ")
    return last


def test_output_that_exists_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    images = ("--input", SPEC, *SIZE, "--out", out)
    domains = ("--source", SPEC, "--target", "synthetic-digits:test:20", "--test", SPEC, *SIZE)
    for words in (
        train_words(SPEC, SPEC, out),
        ("preview", tiny_run, *images),
        ("generate", tiny_run, *images),
        ("evaluate", *domains, "--out", out),
        ("demo", "--out", out),
    ):
        message = refusal(*words, *(SIZE if words[0] == "train" else ()))
        assert "exists already" in message
        assert str(out) in message
        assert "Errno" not in message
    assert out.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no locks")
@pytest.mark.parametrize("command", ["preview", "export", "labels"])
def test_a_file_that_another_process_is_writing_is_left_to_it(
    command: str, photos: Path, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / {"preview": "sheet.png", "export": "graph.pt2", "labels": "labels.json"}[command]
    judged = (
        "--source",
        SPEC,
        "--judge",
        "synthetic-digits:train:200",
        "--fit.steps",
        "2",
        "--variants",
        "1",
        "--label-preservation",
    )
    words: tuple[str | Path, ...] = {
        "preview": ("preview", tiny_run, "--input", photos, *SIZE),
        "export": ("export", tiny_run, *SIZE),
        "labels": ("evaluate", "--checkpoint", tiny_run, *judged, *SIZE),
    }[command]
    with only_writer_of(out):
        outcome = run_cli(*words, "--out", out)
    assert outcome.code == 2, outcome
    assert f"another process is writing to {out}; wait for it, or choose another file" in outcome.err
    assert not out.exists()
    assert not out.with_suffix(".tmp").exists()
