"""Checkpoints: what goes in comes out, and nothing else is ever read, run or overwritten."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import munitaug
from munitaug.checkpoint import checkpoint_sha256, find_checkpoint, load_method, save_method, shared_translator
from munitaug.method import Method
from munitaug.methods import METHODS, Munit, MunitConfig, SemanticConsistency
from munitaug.types import CheckpointError
from tests.tiny import TINY, tiny_pair

PACKAGE = Path(munitaug.__file__).parent


@pytest.fixture
def method() -> Munit:
    method = Munit(TINY, seed=4)
    method.style_banks = {"a": torch.randn(5, 3), "b": torch.randn(6, 3)}
    return method


@pytest.fixture
def saved(method: Munit, tmp_path: Path) -> Path:
    return save_method(method, tmp_path / "checkpoint", {"steps": 7})


def weights_file(folder: Path) -> Path:
    (path,) = folder.glob("weights-*.safetensors")
    return path


def index_of(folder: Path) -> dict[str, object]:
    index: dict[str, object] = json.loads((folder / "checkpoint.json").read_text())
    return index


def change_index(folder: Path, **changes: object) -> None:
    """Changes checkpoint.json and leaves out its SHA-256, as one of an older munitaug does."""
    index = {name: value for name, value in index_of(folder).items() if name != "index_sha256"}
    (folder / "checkpoint.json").write_text(json.dumps({**index, **changes}))


def change_weights_facts(folder: Path, content: bytes) -> None:
    """Puts bytes in place of the weights, and makes checkpoint.json agree with them."""
    path = weights_file(folder)
    path.write_bytes(content)
    facts = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_index(folder, weights=facts)


def output_of(method: Method) -> Tensor:
    with torch.no_grad():
        return method.translator("a", "b").translate(tiny_pair().a, torch.ones(2, 2, 3))


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def test_the_public_names_are_these_functions() -> None:
    assert munitaug.save is save_method
    assert munitaug.load is load_method
    assert munitaug.shared_translator is shared_translator


def test_a_round_trip_keeps_configuration_weights_banks_and_outputs(method: Munit, saved: Path) -> None:
    loaded = load_method(saved)
    assert type(loaded) is Munit
    assert loaded.config == method.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in method.state_dict().items())
    assert torch.equal(output_of(loaded), output_of(method))
    assert list(loaded.style_banks) == ["a", "b"]
    assert all(torch.equal(bank, loaded.style_banks[key]) for key, bank in method.style_banks.items())
    assert torch.equal(loaded.translator("a", "b").style_bank, method.style_banks["b"])
    assert not loaded.training


def test_every_preset_and_spectral_norm_make_the_round_trip(tmp_path: Path) -> None:
    for config in (MunitConfig.preset("small", channels=1), dataclasses.replace(TINY, spectral_norm=True)):
        method = Munit(config)
        loaded = load_method(save_method(method, tmp_path / str(config.channels)))
        assert loaded.config == config
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in method.state_dict().items())


def test_one_bank_for_both_domains_can_be_saved(method: Munit, tmp_path: Path) -> None:
    method.style_banks = dict.fromkeys(("a", "b"), torch.randn(9, 3)[:4])
    assert load_method(save_method(method, tmp_path / "c")).style_banks["a"].shape == (4, 3)


def test_a_channels_last_method_is_saved_in_plain_order(method: Munit, tmp_path: Path) -> None:
    expected = output_of(method)
    save_method(method.to(memory_format=torch.channels_last), tmp_path / "c")
    torch.testing.assert_close(output_of(load_method(tmp_path / "c")), expected)


def test_a_wrapper_saves_the_method_inside(method: Munit, tmp_path: Path) -> None:
    save_method(SemanticConsistency(method, nn.Identity()), tmp_path / "c")
    assert torch.equal(output_of(load_method(tmp_path / "c")), output_of(method))


def test_the_index_says_what_it_holds(saved: Path) -> None:
    index = index_of(saved)
    path = weights_file(saved)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert index["format"] == "munitaug-checkpoint"
    assert index["format_version"] == 1
    assert index["method"] == "munit"
    assert index["provenance"] == {"steps": 7}
    assert index["weights"] == {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}
    assert path.name == f"weights-{digest[:16]}.safetensors"
    assert checkpoint_sha256(saved) == digest
    assert sorted(os.listdir(saved)) == ["checkpoint.json", path.name]


def test_a_run_folder_is_taken_for_the_checkpoint_inside(saved: Path) -> None:
    assert find_checkpoint(saved.parent) == find_checkpoint(saved) == saved


def test_saving_over_an_older_checkpoint_replaces_it(saved: Path) -> None:
    other = Munit(TINY, seed=8)
    old = weights_file(saved)
    save_method(other, saved)
    assert not old.exists()
    assert torch.equal(output_of(load_method(saved)), output_of(other))
    assert sorted(os.listdir(saved)) == ["checkpoint.json", weights_file(saved).name]


def test_saving_the_same_weights_again_keeps_them(method: Munit, saved: Path) -> None:
    save_method(method, saved)
    assert torch.equal(output_of(load_method(saved)), output_of(method))


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failing_save_leaves_the_old_checkpoint(
    method: Munit, saved: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The three replacements are: the weights whole, the weights named, the index."""
    calls = 0
    move = os.replace

    def fail(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("no space left on device")
        move(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_method(Munit(TINY, seed=8), saved)
    monkeypatch.undo()
    assert torch.equal(output_of(load_method(saved)), output_of(method))
    other = Munit(TINY, seed=9)
    save_method(other, saved)
    assert torch.equal(output_of(load_method(saved)), output_of(other))
    assert sorted(os.listdir(saved)) == ["checkpoint.json", weights_file(saved).name]


@pytest.mark.parametrize("left", ["weights.safetensors.tmp", "weights.safetensors", "checkpoint.json.tmp"])
def test_what_a_kill_left_of_a_first_save_does_not_stop_the_next(method: Munit, tmp_path: Path, left: str) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / left).write_bytes(b"half")
    (folder / "weights-0123456789abcdef.safetensors").write_bytes(b"whole, but never named by an index")
    save_method(method, folder)
    assert torch.equal(output_of(load_method(folder)), output_of(method))
    assert {"checkpoint.json", weights_file(folder).name} <= set(os.listdir(folder))


@pytest.mark.parametrize("name", ["thesis.tex", "weights-best.safetensors", "weights.pt", "checkpoint.json"])
def test_a_folder_that_holds_something_else_is_not_touched(method: Munit, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match=rf"holds something that is no checkpoint \({name}\)"):
        save_method(method, tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_other_files_beside_a_checkpoint_stay(method: Munit, saved: Path) -> None:
    for name in ("notes.txt", "weights-best.safetensors"):
        (saved / name).write_text("mine")
    save_method(Munit(TINY, seed=8), saved)
    assert {"notes.txt", "weights-best.safetensors"} < set(os.listdir(saved))


def test_a_file_in_the_place_of_the_folder_is_not_touched(method: Munit, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file; a checkpoint is a folder: choose another path"):
        save_method(method, tmp_path / "model")


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_method(path)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_truncated_weights_are_refused(saved: Path, kept: int) -> None:
    path = weights_file(saved)
    path.write_bytes(path.read_bytes()[:kept])
    refused(saved, r"has \d+ bytes, checkpoint.json says \d+: it is truncated or replaced")


@pytest.mark.parametrize("place", [3, 500, -1])
def test_a_single_flipped_bit_is_refused(saved: Path, place: int) -> None:
    path = weights_file(saved)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    refused(saved, "does not have the SHA-256 that checkpoint.json states: it is damaged or replaced")


def test_missing_weights_are_refused(saved: Path) -> None:
    weights_file(saved).unlink()
    refused(saved, r"weights-\w+\.safetensors is missing; the checkpoint is damaged")


def torch_saved(thing: object, path: Path, zipped: bool = True) -> bytes:
    torch.save(thing, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.unlink()
    return content


PICKLES: dict[str, Callable[[object, Path], bytes]] = {
    "torch.save": torch_saved,
    "torch.save, old": lambda thing, path: torch_saved(thing, path, zipped=False),
    "pickle 0": lambda thing, _: pickle.dumps(thing, protocol=0),
    "pickle 2": lambda thing, _: pickle.dumps(thing, protocol=2),
    "pickle 5": lambda thing, _: pickle.dumps(thing, protocol=5),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_that_poses_as_a_checkpoint_is_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    content = PICKLES[kind](Harmful(tmp_path / "marker"), tmp_path / "scratch")
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    protocol_0_looks_like_text = kind == "pickle 0"
    refused(path, "is a file; a munitaug checkpoint" if protocol_0_looks_like_text else "munitaug never unpickles")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("facts", ["agree", "differ"])
def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(
    saved: Path, tmp_path: Path, kind: str, facts: str
) -> None:
    content = PICKLES[kind](Harmful(tmp_path / "marker"), tmp_path / "scratch")
    if facts == "agree":
        change_weights_facts(saved, content)
        refused(saved, "is not a safetensors file .* munitaug reads nothing else")
    else:
        weights_file(saved).write_bytes(content)
        refused(saved, "it is truncated or replaced")
        path = weights_file(saved)
        change_index(saved, weights={"file": path.name, "sha256": "0" * 64, "bytes": len(content)})
        refused(saved, "does not have the SHA-256")
    assert not (tmp_path / "marker").exists()


def test_the_unpickled_marker_would_have_appeared(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Harmful(tmp_path / "marker"))).close()
    assert (tmp_path / "marker").exists()


def test_an_index_cannot_lead_out_of_the_folder(saved: Path) -> None:
    path = weights_file(saved)
    outside = saved.parent / path.name
    path.rename(outside)
    change_index(saved, weights={**index_of(saved)["weights"], "file": f"../{path.name}"})  # type: ignore[dict-item]
    refused(saved, "is missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is not a munitaug-checkpoint"),
        ({"format_version": 2}, "has checkpoint format version 2, .* reads version 1; use the munitaug that wrote it"),
        ({"format_version": None}, "has checkpoint format version None"),
        ({"method": "nonesuch"}, "holds a 'nonesuch' model, which this munitaug .* does not know; it knows munit"),
        ({"method": ["munit"]}, r"holds a \['munit'\] model"),
        ({"weights": None}, r"lacks weights\.file, weights\.sha256, weights\.bytes; the checkpoint is damaged"),
        ({"weights": {"file": "x"}}, r"lacks weights\.sha256, weights\.bytes"),
        ({"config": {}}, "weights and configuration do not fit together"),
        ({"config": None}, "weights and configuration do not fit together"),
        ({"config": [1]}, "weights and configuration do not fit together"),
    ],
)
def test_a_foreign_or_damaged_index_is_refused(saved: Path, changes: dict[str, object], message: str) -> None:
    change_index(saved, **changes)
    refused(saved, message)


@pytest.mark.parametrize(("field", "value"), [("width", 5), ("width", -1), ("colour", 1), ("n_scales", 1)])
def test_a_configuration_that_does_not_fit_is_refused(saved: Path, field: str, value: int) -> None:
    config = index_of(saved)["config"]
    assert isinstance(config, dict)
    change_index(saved, config={**config, field: value})
    refused(saved, "weights and configuration do not fit together")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'"munitaug-checkpoint"', b"null"])
def test_an_index_that_is_no_json_object_is_refused(saved: Path, content: bytes) -> None:
    (saved / "checkpoint.json").write_bytes(content)
    refused(saved, "is not JSON .* the checkpoint is damaged|is not a munitaug-checkpoint")


def test_paths_without_a_checkpoint_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "none does not exist: give the checkpoint folder that munitaug train wrote")
    refused(tmp_path, "has no checkpoint.json")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    refused(tmp_path / "image.png", "is a file; a munitaug checkpoint is a folder with checkpoint.json")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "is a file; a munitaug checkpoint")
    for count in range(64):  # the header's length, and with it the first byte, takes all values
        save_file({"x" * (count + 1): torch.zeros(1)}, tmp_path / "weights", {"word": "y" * (8 * count)})
        refused(tmp_path / "weights", "weights is a file of tensors; give the checkpoint folder that it lies in")


def test_a_shared_translator_is_one_object_until_the_checkpoint_changes(saved: Path) -> None:
    first = shared_translator(saved)
    assert shared_translator(str(saved)) is first
    assert shared_translator(saved.parent, "a2b", torch.device("cpu")) is first
    assert shared_translator(saved, "b2a") is not first
    other = Munit(TINY, seed=8)
    save_method(other, saved)
    second = shared_translator(saved)
    assert second is not first
    x, style = tiny_pair().a, torch.ones(2, 2, 3)
    assert torch.equal(second.translate(x, style), output_of(other))


def test_a_shared_translator_is_frozen_and_in_evaluation_mode(saved: Path) -> None:
    translator = shared_translator(saved)
    assert not translator.training
    assert not any(parameter.requires_grad for parameter in translator.parameters())


@pytest.mark.parametrize("device", ["nonsense", "meta", torch.device("meta")])
def test_a_shared_translator_needs_a_device_that_is_there(saved: Path, device: str | torch.device) -> None:
    with pytest.raises(ValueError, match="device"):
        shared_translator(saved, device=device)


def test_a_shared_translator_needs_a_direction(saved: Path) -> None:
    with pytest.raises(ValueError, match='direction must be "a2b" or "b2a"'):
        shared_translator(saved, "forwards")


def unpickling_in(tree: ast.AST) -> list[str]:
    """Gives the imports and calls of a file that can unpickle; torch.load with weights_only=True cannot."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            keywords = {item.arg: ast.unparse(item.value) for item in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load" and keywords.get("weights_only") != "True":
                found.append("torch.load")
            if keywords.get("allow_pickle", "False") != "False":
                found.append("allow_pickle")
    banned = ("pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "torch.load", "allow_pickle")
    return [name for name in found if name == "torch.load" or name.split(".")[0] in banned]


def test_nothing_in_the_package_unpickles() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert {name: unpickling_in(ast.parse(text)) for name, text in sources.items()} == {name: [] for name in sources}
    readers = sorted(name for name, text in sources.items() if "torch.load" in text)
    assert readers == ["interop/weights.py", "networks/vgg.py"]


@pytest.mark.parametrize(
    "source", ["import pickle", "from pickle import loads", "torch.load(x)", "torch.load(x, weights_only=False)"]
)
def test_the_search_for_unpickling_finds_it(source: str) -> None:
    assert unpickling_in(ast.parse(source))


class PooledMunit(Munit):
    """Keeps something between steps whose size is not known beforehand."""

    def get_extra_state(self) -> Tensor:
        return torch.ones(7)

    def set_extra_state(self, state: Tensor) -> None:
        pass


def test_what_serves_training_only_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "munit", PooledMunit)
    method = PooledMunit(TINY)
    assert "_extra_state" in method.state_dict()
    folder = save_method(method, tmp_path / "checkpoint")
    assert not [name for name in load_file(next(folder.glob("*.safetensors"))) if "_extra_state" in name]
    assert isinstance(load_method(folder), PooledMunit)


def test_a_one_sided_method_says_so_when_the_other_direction_is_asked_for(tmp_path: Path) -> None:
    method = Munit(TINY)
    method.directions = (("a", "b"),)
    folder = save_method(method, tmp_path / "checkpoint")
    assert load_method(folder).directions == (("a", "b"),)
    assert shared_translator(folder, "a2b").style_dim == TINY.style_dim
    with pytest.raises(ValueError, match="translates a2b only, got b2a"):
        shared_translator(folder, "b2a")


def test_a_translator_may_work_in_bfloat16(saved: Path) -> None:
    exact, faster = shared_translator(saved), shared_translator(saved, precision="bfloat16")
    x, style = torch.rand(2, exact.channels, 16, 16) * 2.0 - 1.0, torch.randn(2, 3, exact.style_dim)
    expected, given = exact.translate(x, style), faster.translate(x, style)
    assert given.dtype == torch.float32
    assert 0.0 < float((given - expected).abs().mean()) < 0.02
    with torch.autocast("cpu", torch.bfloat16):  # the caller's choice stands
        assert torch.equal(exact.translate(x, style), given)
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'half'"):
        shared_translator(saved, precision="half")  # type: ignore[arg-type]


@pytest.mark.timeout(300)
def test_a_translator_may_be_compiled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler")
    plain, compiled = shared_translator(saved), shared_translator(saved, compile=True)
    assert compiled is not plain
    assert compiled is shared_translator(saved, compile=True)
    x, style = torch.rand(3, plain.channels, 16, 16) * 2.0 - 1.0, torch.randn(3, 2, plain.style_dim)
    with torch.inference_mode():
        expected = plain.translate(x, style)
        torch.testing.assert_close(compiled.translate(x, style), expected, atol=1e-4, rtol=0.0)
        for half in ("encode_content", "decode_variants"):  # what was traced is no longer called
            monkeypatch.setattr(type(compiled), half, refuse_to_run)
        torch.testing.assert_close(compiled.translate(x, style), expected, atol=1e-4, rtol=0.0)


def refuse_to_run(*_: object) -> None:
    raise AssertionError("not compiled")


def test_compiling_without_a_compiler_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, but there is no 'no-such-compiler'; install one"):
        shared_translator(saved, compile=True)


def test_facts_that_json_cannot_hold_are_refused_before_anything_is_written(saved: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in saved.iterdir())
    for folder in (saved, tmp_path / "new"):
        with pytest.raises(TypeError, match="JSON"):
            save_method(Munit(TINY, seed=9), folder, {"images": {1, 2}})
    assert sorted(path.name for path in saved.iterdir()) == before
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_without_provenance_tells_what_it_knows(saved: Path) -> None:
    index = json.loads((saved / "checkpoint.json").read_text())
    del index["provenance"], index["index_sha256"]
    (saved / "checkpoint.json").write_text(json.dumps(index))
    assert munitaug.checkpoint_facts(saved).provenance.keys() == {"versions"}


def test_any_device_there_is_may_be_chosen(saved: Path) -> None:
    assert munitaug.shared_translator(saved, device="auto").style_bank.device.type in ("cpu", "cuda")


def test_a_shared_translator_is_the_same_from_another_working_folder(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shared_translator(saved)
    monkeypatch.chdir(saved.parent)
    assert shared_translator(saved.name) is first


def test_what_is_loaded_is_float32_whatever_the_default_is(saved: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        method = load_method(saved)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in method.parameters()} == {torch.float32}
