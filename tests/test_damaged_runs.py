"""Damaged files of a run folder: an error that names the file, or the right answer; never a crash or wrong weights."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import munitaug
from benchmarks.damage import KINDS, Damage, damaged, draw_damage
from munitaug.checkpoint import read_index
from munitaug.methods import Munit
from munitaug.recipes.options import refuse_existing_run
from munitaug.training.state import load_state
from munitaug.types import CheckpointError
from tests.runs import refusal, train_tiny
from tests.tiny import TINY

QUIET = settings(
    derandomize=True, max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PLACES = st.floats(0.0, 1.0, exclude_max=True)
DAMAGES = st.tuples(st.sampled_from(KINDS), PLACES, st.integers(1, 300), st.integers(0, 2**32))


def spoil(file: Path, content: bytes, drawn: tuple[str, float, int, int]) -> None:
    kind, share, size, seed = drawn
    file.write_bytes(damaged(content, Damage(kind, int(share * len(content)), size, seed)))


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("damaged") / "run"))


def is_refused_or_right(read: Callable[[], bool], file: Path) -> None:
    try:
        assert read()
    except CheckpointError as error:
        assert file.name in str(error) or str(file.parent) in str(error)  # noqa: PT017


@cache
def loaded(run: Path) -> tuple[munitaug.Method, dict[str, object]]:
    return munitaug.load(run), read_index(run / "checkpoint")


@given(drawn=DAMAGES)
@QUIET
@pytest.mark.parametrize("pattern", ["checkpoint.json", "weights-*.safetensors"])
def test_a_damaged_checkpoint_is_refused_or_read_right(
    tiny_run: Path, run: Path, pattern: str, drawn: tuple[str, float, int, int]
) -> None:
    (file,) = (run / "checkpoint").glob(pattern)
    whole = tiny_run / "checkpoint" / file.name
    expected, index = loaded(tiny_run)

    def read() -> bool:
        method = munitaug.load(run)
        weights = method.state_dict()
        return (
            all(torch.equal(tensor, weights[name]) for name, tensor in expected.state_dict().items())
            and all(torch.equal(bank, method.style_banks[key]) for key, bank in expected.style_banks.items())
            and method.config == expected.config
            and method.directions == expected.directions
            and read_index(run / "checkpoint") == index
        )

    spoil(file, whole.read_bytes(), drawn)
    is_refused_or_right(read, file)
    file.write_bytes(whole.read_bytes())


@given(drawn=DAMAGES)
@QUIET
def test_a_damaged_state_is_refused_or_read_right(
    tiny_run: Path, run: Path, drawn: tuple[str, float, int, int]
) -> None:
    whole, file = tiny_run / "state" / "state.safetensors", run / "state" / "state.safetensors"
    expected, step = load_state(whole)

    def read() -> bool:
        tensors, found = load_state(file)
        return found == step and all(torch.equal(tensor, tensors[name]) for name, tensor in expected.items())

    spoil(file, whole.read_bytes(), drawn)
    is_refused_or_right(read, file)


def test_damage_is_repeatable_and_of_every_kind() -> None:
    content = bytes(range(256)) * 4
    drawn = [draw_damage(random.Random(number), len(content)) for number in range(300)]
    assert {damage.kind for damage in drawn} >= set(KINDS) - {"empty"}
    assert [damaged(content, damage) for damage in drawn] == [damaged(content, damage) for damage in drawn]
    assert sum(damaged(content, damage) == content for damage in drawn) < 10
    for kind in KINDS:
        assert isinstance(damaged(b"", Damage(kind, 0, 5, 0)), bytes)


def test_a_damaged_classifier_of_a_run_is_named(tiny_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    content = bytearray((folder / "classifier.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "classifier.safetensors").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"safetensors holds no .* damaged .* remove the file, and it is trained anew"
    ):
        train_tiny(folder, resume=True)


@pytest.fixture
def checkpoint(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run / "checkpoint", tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b'{"format": ' + b"9" * 5000 + b"}", "is not JSON"),
        (
            b'{"format": "munitaug-checkpoint", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
            "is not JSON|has checkpoint format",
        ),
    ],
)
def test_hostile_json_is_refused(checkpoint: Path, content: bytes, message: str) -> None:
    (checkpoint / "checkpoint.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        munitaug.load(checkpoint)


def test_an_endless_index_is_not_read(checkpoint: Path) -> None:
    with open(checkpoint / "checkpoint.json", "r+b") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk
    with pytest.raises(CheckpointError, match="is over 67108864 bytes"):
        munitaug.load(checkpoint)


def change_index(checkpoint: Path, change: Callable[[dict[str, dict[str, object]]], None], seal: bool) -> None:
    index = json.loads((checkpoint / "checkpoint.json").read_text())
    change(index)
    if seal:
        del index["index_sha256"]
    (checkpoint / "checkpoint.json").write_text(json.dumps(index))


def test_an_index_that_was_changed_by_hand_is_refused(checkpoint: Path) -> None:
    change_index(checkpoint, lambda index: index["config"].update(weight_cycle=3.0), seal=False)
    message = "does not have the SHA-256 that it states: it is damaged, or was changed by hand"
    with pytest.raises(CheckpointError, match=message):
        munitaug.load(checkpoint)
    assert message in refusal("info", checkpoint)


def test_order_and_blanks_of_an_index_do_not_matter(checkpoint: Path) -> None:
    index = json.loads((checkpoint / "checkpoint.json").read_text())
    (checkpoint / "checkpoint.json").write_text(json.dumps(dict(reversed(index.items())), indent=7))
    assert munitaug.load(checkpoint).name == "munit"


@pytest.mark.parametrize("field", ["width", "discriminator_width", "mlp_width", "n_residual"])
@pytest.mark.parametrize("value", [9, 60_000, 10**12])
def test_a_small_file_makes_no_large_network(checkpoint: Path, field: str, value: int) -> None:
    change_index(checkpoint, lambda index: index["config"].update({field: value}), seal=True)
    with pytest.raises(CheckpointError, match="weights and configuration do not fit together"):
        munitaug.load(checkpoint)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    method = Munit(TINY)
    with torch.no_grad():
        next(method.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(CheckpointError, match="holds numbers that are not finite; train or convert it again"):
        munitaug.load(munitaug.save(method, tmp_path / "checkpoint"))


def test_a_run_that_was_killed_before_its_first_word_may_begin_again(tmp_path: Path) -> None:
    (tmp_path / "config.json.tmp").write_text("{")
    refuse_existing_run(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        refuse_existing_run(tmp_path)
