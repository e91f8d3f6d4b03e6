"""Folders for the Hub: a round trip without a network, and what is asked of huggingface_hub with one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import munitaug
from munitaug.methods import Munit
from munitaug.types import CheckpointError
from tests.tiny import TINY, tiny_pair


@pytest.fixture
def method() -> Munit:
    return Munit(TINY, seed=3).eval()


class FakeHub(ModuleType):
    """Writes down what it is asked; a download gives the folder."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("huggingface_hub")
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.folder = folder
        self.uploaded: dict[str, str] = {}

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        self.calls.append(("snapshot_download", {"repo_id": repo_id, **options}))
        return str(self.folder)

    def HfApi(self, token: str | None) -> FakeHub:
        self.calls.append(("HfApi", {"token": token}))
        return self

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        return f"hub/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload_folder", {"repo_id": options["repo_id"]}))
        for path in Path(options["folder_path"]).iterdir():
            self.uploaded[path.name] = path.read_text(errors="replace") if path.suffix != ".safetensors" else ""


def give(monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> FakeHub:
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


def test_a_folder_comes_back_as_a_translator_that_the_transform_takes(
    method: Munit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    folder = munitaug.save_pretrained(method, tmp_path / "model")
    translator = munitaug.from_pretrained(folder, direction="b2a")
    x, style = tiny_pair().a, torch.randn(2, 2, 3)
    assert torch.equal(translator.translate(x, style), method.translator("b", "a").translate(x, style))
    assert not any(parameter.requires_grad for parameter in translator.parameters())
    image = x[0] * 0.5 + 0.5
    assert munitaug.MUNITTransform(translator)(image).shape == image.shape


def test_the_card_says_what_the_model_is(method: Munit, tmp_path: Path) -> None:
    training = {"max_steps": 12}
    provenance = {"source": {"name": "day"}, "target": {"name": "night"}, "training": training}
    checkpoint = munitaug.save(method, tmp_path / "checkpoint", provenance)
    folder = munitaug.save_pretrained(checkpoint, tmp_path / "model")
    card = (folder / "README.md").read_text(encoding="utf-8")
    for fact in ("library_name: munitaug", "# munit: day to night", "a2b, b2a", "training steps: 12", "Channels: 3"):
        assert fact in card
    assert munitaug.checkpoint_facts(folder).sha256 in card
    assert munitaug.checkpoint_facts(folder).provenance["training"] == training


def test_a_folder_of_the_hub_can_be_written_again(method: Munit, tmp_path: Path) -> None:
    folder = munitaug.save_pretrained(method, tmp_path / "model")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    munitaug.save_pretrained(Munit(TINY, seed=4), folder)
    assert (folder / ".gitattributes").exists()
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_a_readme_alone_makes_no_checkpoint_folder(method: Munit, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is no checkpoint"):
        munitaug.save_pretrained(method, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_only_json_and_tensors_are_downloaded(method: Munit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = give(monkeypatch, FakeHub(munitaug.save_pretrained(method, tmp_path / "model")))
    translator = munitaug.from_pretrained("someone/model", revision="v1", cache_dir=tmp_path)
    assert translator.style_dim == TINY.style_dim
    ((name, options),) = hub.calls
    assert (name, options["repo_id"], options["revision"]) == ("snapshot_download", "someone/model", "v1")
    assert options["allow_patterns"] == ["checkpoint.json", "weights-*.safetensors"]


def test_a_repository_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, FakeHub(tmp_path))
    with pytest.raises(CheckpointError, match=r"has no checkpoint\.json"):
        munitaug.from_pretrained("someone/pickles")


def test_pushing_uploads_the_checkpoint_and_its_card(method: Munit, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = give(monkeypatch, FakeHub())
    assert munitaug.push_to_hub(method, "someone/model", private=True, token="t") == "hub/someone/model"
    assert hub.calls == [
        ("HfApi", {"token": "t"}),
        ("create_repo", {"repo_id": "someone/model", "private": True, "exist_ok": True}),
        ("upload_folder", {"repo_id": "someone/model"}),
    ]
    kinds = sorted(Path(name).suffix for name in hub.uploaded)
    assert kinds == [".json", ".md", ".safetensors"]


@pytest.mark.parametrize("name", ["/missing/folder", "runs/night/checkpoint", "../x", "night"])
def test_what_is_neither_folder_nor_repository_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*, and a repository is called owner/name"):
        munitaug.from_pretrained(name)


def test_the_missing_package_is_named(method: Munit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"someone/model is no folder here.*munitaug\[hub\]"):
        munitaug.from_pretrained("someone/model")
    with pytest.raises(ImportError, match=r"munitaug\[hub\]"):
        munitaug.push_to_hub(method, "someone/model")
