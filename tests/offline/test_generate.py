"""Offline generation: what the file holds, and that no way of stopping a run changes a byte of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.data.hdf5 import AugmentedDataset
from munitaug.kernel import translate_images
from munitaug.offline import parts, plan
from munitaug.random import torch_generator
from munitaug.styles import PriorStyles
from munitaug.types import DomainError, Interrupted
from tests.offline.toys import ITEMS, SIDE, Toy, contents, make_domain, run, stop_after

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PART_BYTES", 8 * 2 * 3 * SIDE * SIDE)  # 8 source images


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of a run that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "PART_BYTES", 8 * 2 * 3 * SIDE * SIDE)
        yield run(tmp_path_factory.mktemp("whole") / "aug.h5")


@pytest.mark.parametrize("keep_original", [False, True])
def test_the_file_holds_what_a_slow_loop_gives(tmp_path: Path, keep_original: bool) -> None:
    domain, translator, styles = make_domain(), Toy().eval(), PriorStyles(3)
    dataset = AugmentedDataset(run(tmp_path / "aug.h5", keep_original=keep_original, seed=11))
    row = 0
    for item in range(ITEMS):
        image, label = domain[item]
        for variant in range(-1 if keep_original else 0, 2):
            style = torch.zeros(1, 1, 3)
            expected = image
            if variant >= 0:
                style = styles.sample(1, 1, torch_generator(11, "style", item, variant))
                expected = translate_images(translator, image[None], style)[0, 0]
            assert torch.equal(dataset[row][0], expected)
            assert torch.equal(dataset.style(row), style[0, 0])
            assert dataset[row][1] == label
            assert (int(dataset.source_indices[row]), int(dataset.variants[row])) == (item, variant)
            row += 1
    assert row == len(dataset)


def test_the_file_says_where_it_comes_from(whole: Path) -> None:
    dataset = AugmentedDataset(whole)
    provenance = dataset.provenance
    config = provenance["config"]
    assert isinstance(config, dict)
    assert config["method"] == "toy"
    assert (config["source_domain"], config["source_images"], config["keep_original"]) == ("toy", ITEMS, False)
    assert (provenance["variants"], provenance["seed"], provenance["complete"]) == (2, 0, 1)
    assert dataset.class_names == tuple("0123456789")
    assert sorted(file.name for file in whole.parent.iterdir()) == ["aug.h5"]


def test_unlabelled_images_get_minus_one(tmp_path: Path) -> None:
    dataset = AugmentedDataset(run(tmp_path / "aug.h5", domain=make_domain(labelled=False)))
    assert dataset.labels.tolist() == [-1] * ITEMS * 2
    assert dataset.class_names == ()


class _Doubles(PriorStyles):
    """Codes as numpy makes them."""

    def sample(self, n: int, k: int, generator: torch.Generator) -> Tensor:
        return super().sample(n, k, generator).double()


def test_styles_of_another_type_are_written_as_float32(tmp_path: Path, whole: Path) -> None:
    dataset = AugmentedDataset(run(tmp_path / "aug.h5", styles=_Doubles(3)))
    dataset.check()
    assert torch.equal(dataset.style(5), AugmentedDataset(whole).style(5))


class _Measured(ArrayDomain):
    """What a user's own class may give: a measurement for each image."""

    @property
    def labels(self) -> Tensor | None:
        return torch.linspace(0, 1, len(self))


def test_labels_that_are_no_classes_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    images = torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8)
    with pytest.raises(DomainError, match=r"lengths: labels must be N whole numbers"):
        run(tmp_path / "aug.h5", domain=_Measured("lengths", images))
    assert not list(tmp_path.iterdir())


def test_styles_do_not_depend_on_the_number_of_variants(tmp_path: Path, whole: Path) -> None:
    two, four = AugmentedDataset(whole), AugmentedDataset(run(tmp_path / "aug.h5", variants=4))
    for item in range(ITEMS):
        for variant in range(2):
            assert torch.equal(two.style(2 * item + variant), four.style(4 * item + variant))
            assert torch.equal(two[2 * item + variant][0], four[4 * item + variant][0])
    assert len({tuple(four.style(row).tolist()) for row in range(len(four))}) == 4 * ITEMS


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_does_not_change_a_byte_of_the_toy_file(tmp_path: Path, whole: Path, batch_size: int) -> None:
    assert run(tmp_path / "aug.h5", batch_size=batch_size).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_the_compression_does_not_change_the_contents(tmp_path: Path, whole: Path, compression: str) -> None:
    packed, usual = contents(run(tmp_path / "aug.h5", compression=compression)), contents(whole)
    of_packed_bytes = ("image_crc32", "content_sha256")
    assert all(packed[name] == usual[name] for name in packed if name not in of_packed_bytes)
    assert packed.keys() == usual.keys()


def test_another_seed_gives_other_styles(tmp_path: Path, whole: Path) -> None:
    other = AugmentedDataset(run(tmp_path / "aug.h5", seed=1))
    assert not torch.equal(other.style(0), AugmentedDataset(whole).style(0))


def test_the_translator_is_put_back_as_it_was(tmp_path: Path) -> None:
    translator = Toy().train()
    translator.dropout.eval()
    run(tmp_path / "aug.h5", translator=translator)
    assert translator.training
    assert not translator.dropout.training


def test_a_one_to_one_translator_gives_one_variant(tmp_path: Path) -> None:
    one = {"translator": Toy(style_dim=0), "styles": PriorStyles(0)}
    dataset = AugmentedDataset(run(tmp_path / "aug.h5", variants=1, keep_original=True, **one))
    assert len(dataset) == 2 * ITEMS
    assert dataset.style(1).shape == (0,)
    with pytest.raises(ValueError, match=r"variants were asked for, .* transgaga or multidomain; or use variants=1"):
        run(tmp_path / "other.h5", **one)


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    assert run(tmp_path / "runs" / "one" / "aug.h5").is_file()


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 5, 6])
def test_a_run_that_was_asked_to_stop_goes_on(tmp_path: Path, whole: Path, batches: int) -> None:
    path = tmp_path / "aug.h5"
    safe = (
        batches // 2 * 16 if batches < 6 else 2 * ITEMS
    )  # a part is 2 batches, 16 rows; the 7th question is the merge
    with pytest.raises(Interrupted, match=f"{safe} of 44 images are safe in .*run the same command again"):
        run(path, should_stop=stop_after(batches))
    assert not path.exists()
    assert run(path).read_bytes() == whole.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["aug.h5"]


def test_finished_parts_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(4))
    seen: list[int] = []
    domain = make_domain()
    read = domain.images

    def watched(indices: range) -> Tensor:
        seen.extend(indices)
        return read(indices)

    monkeypatch.setattr(domain, "images", watched)
    run(tmp_path / "aug.h5", domain=domain)
    assert seen == list(range(16, ITEMS))


def test_keyboard_interrupt_leaves_a_run_that_goes_on(tmp_path: Path, whole: Path) -> None:
    asked = stop_after(3)

    def interrupt() -> bool:
        if asked():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "aug.h5", should_stop=interrupt)
    assert run(tmp_path / "aug.h5").read_bytes() == whole.read_bytes()


def test_damaged_and_foreign_parts_are_made_again(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(6))
    folder = tmp_path / "aug.h5.parts"
    first, second, third = sorted(folder.glob("part-*.h5"))
    first.write_bytes(first.read_bytes()[:5000])
    second.write_bytes(third.read_bytes())
    third.write_text("no HDF5")
    (folder / "part-00000.h5.tmp").write_text("left by a kill")
    (folder / "merged.h5.tmp").write_text("left by a kill")
    assert run(tmp_path / "aug.h5").read_bytes() == whole.read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 5}, "seed was 0, now 5"),
        ({"variants": 3}, "variants was 2, now 3"),
        ({"batch_size": 8}, "batch_size was 4, now 8"),
        ({"compression": "gzip"}, "compression was 'lzf', now 'gzip'"),
        ({"checkpoint_sha256": "ff"}, "checkpoint_sha256 was '', now 'ff'"),
        ({"domain": make_domain(items=30)}, "items was 22, now 30"),
        ({"styles": PriorStyles(3, truncation=0.5)}, "config.styles_sha256 was '"),
        ({"provenance": {"method": "other"}}, "config.method was 'toy', now 'other'\\n"),
    ],
)
def test_a_run_with_other_arguments_is_not_mixed_in(tmp_path: Path, changes: dict[str, object], line: str) -> None:
    path = tmp_path / "aug.h5"
    with pytest.raises(Interrupted):
        run(path, should_stop=stop_after(3))
    before = {file.name: file.read_bytes() for file in (tmp_path / "aug.h5.parts").iterdir()}
    with pytest.raises(ValueError, match=rf"(?s)unfinished run with other arguments.*{line}.*--overwrite"):
        run(path, **changes)
    assert {file.name: file.read_bytes() for file in (tmp_path / "aug.h5.parts").iterdir()} == before
    assert contents(run(path, overwrite=True, **changes)) == contents(run(tmp_path / "other.h5", **changes))


def test_a_run_of_which_nothing_was_finished_gives_way_to_other_arguments(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "aug[1].h5"
    with pytest.raises(Interrupted, match="0 of 44 images are safe"):
        run(path, seed=5, should_stop=stop_after(1))
    assert run(path).read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == [path.name]


def test_of_many_differences_some_are_named_and_none_at_length(tmp_path: Path) -> None:
    first, second = ({f"setting {number:02}": text * 5000 for number in range(30)} for text in "ab")
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", provenance=first, should_stop=stop_after(3))
    with pytest.raises(ValueError, match=r"(?s)setting 00 was 'aaa.*setting 11 was 'aaa.*and 18 more\n") as refused:
        run(tmp_path / "aug.h5", provenance=second)
    assert len(str(refused.value)) < 3000


def test_other_weights_are_another_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    translator = Toy()
    torch.nn.init.constant_(translator.strength, 0.6)
    with pytest.raises(ValueError, match=r"config\.weights_sha256 was"):
        run(tmp_path / "aug.h5", translator=translator)


def test_an_output_that_exists_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "aug.h5"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already .*aug\.h5"):
        run(path)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["aug.h5"]
    for folder in (tmp_path, Path(), Path("/")):
        with pytest.raises(FileExistsError, match="is a folder; name a file"):
            run(folder, overwrite=True)


def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "aug.h5"
    path.write_text("mine")
    with pytest.raises(Interrupted):
        run(path, overwrite=True, should_stop=stop_after(3))
    assert path.read_text() == "mine"
    with pytest.raises(FileExistsError):
        run(path)
    assert run(path, overwrite=True).read_bytes() == whole.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["aug.h5"]


def test_a_kill_between_the_last_two_steps_is_only_tidied_up(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: parts.PartsFolder) -> None:
        raise KeyboardInterrupt

    begun = (tmp_path / "aug.h5").exists
    with monkeypatch.context() as patch:
        remove = parts.PartsFolder.remove
        patch.setattr(parts.PartsFolder, "remove", lambda self: killed(self) if begun() else remove(self))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "aug.h5")
    assert (tmp_path / "aug.h5.parts").exists()
    inode = (tmp_path / "aug.h5").stat().st_ino
    assert run(tmp_path / "aug.h5").read_bytes() == whole.read_bytes()
    assert (tmp_path / "aug.h5").stat().st_ino == inode
    assert not (tmp_path / "aug.h5.parts").exists()


def test_a_second_writer_is_refused(tmp_path: Path, whole: Path) -> None:
    def second() -> bool:
        with pytest.raises(BlockingIOError, match=r"another process is writing to .*aug\.h5\.parts"):
            run(tmp_path / "aug.h5")
        return False

    assert run(tmp_path / "aug.h5", should_stop=second).read_bytes() == whole.read_bytes()


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "aug.h5"
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 4:  # plan and its folder, part 0 and its folder, part 1 ...
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"disk full: 16 of 44 images are safe in .*run the same command") as caught:
            run(path)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(file.name for file in (tmp_path / "aug.h5.parts").iterdir()) == ["lock", "part-00000.h5", "plan.json"]
    assert run(path).read_bytes() == whole.read_bytes()


def test_no_room_for_joining_is_seen_before_it_begins(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(OSError, match="disk full: 44 of 44 images are safe"):
            run(tmp_path / "aug.h5")
    assert run(tmp_path / "aug.h5").read_bytes() == whole.read_bytes()


def test_other_errors_are_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        run(tmp_path / "aug.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_mixed_sizes_is_refused_before_a_file_is_touched(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index, side in enumerate((16, 16, 20)):
        Image.new("RGB", (side, 16)).save(tmp_path / "images" / f"{index}.png")
    with pytest.raises(DomainError, match=r"different sizes .*, and there are 2 \(16 x 16, 20 x 16 px, .*--size 64"):
        run(tmp_path / "aug.h5", domain=FolderDomain(tmp_path / "images"))
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize(
    ("channels", "side", "message"),
    [(4, 16, "image has 4 channels, but 3 are needed"), (3, 15, "images are 15 x 15 px, but sides of at least 16 px")],
)
def test_images_that_cannot_be_translated_are_refused_before_a_file_is_touched(
    tmp_path: Path, channels: int, side: int, message: str
) -> None:
    images = torch.zeros(3, channels, side, side, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "aug.h5", domain=ArrayDomain("some", images))
    assert list(tmp_path.iterdir()) == []


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    class Mixed(ImageDomain):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.zeros(3, SIDE if index < 4 else 20, SIDE, dtype=torch.uint8), 0

        @property
        def labels(self) -> Tensor | None:
            return None

    with pytest.raises(DomainError, match=r"different sizes .* from number 4 on are \(3, 20, 16\)"):
        run(tmp_path / "aug.h5", domain=Mixed("mixed", 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": 0}, "variants must be 1 to 32767, got 0"),
        ({"variants": 40000}, "variants must be 1 to 32767, got 40000"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"compression": "zip"}, "compression must be one of"),
        ({"seed": 2**64}, "seed must fit in 64 bits"),
        ({"styles": PriorStyles(7)}, "style codes of 3 numbers, but this style source gives 7"),
    ],
)
def test_unsuitable_arguments_are_refused_before_a_file_is_touched(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "aug.h5", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["variants", "seed", "batch_size", "shards"])
@pytest.mark.parametrize("number", [1.5, 2.0, True, "2", None])
def test_numbers_that_are_not_whole_are_refused_before_a_file_is_touched(
    tmp_path: Path, name: str, number: object
) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got {number!r}"):
        run(tmp_path / "aug.h5", **{name: number})
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_numbers(tmp_path: Path, whole: Path) -> None:
    path = run(tmp_path / "aug.h5", variants=np.int64(2), seed=np.int64(0), batch_size=np.uint8(4), shards=np.int32(0))
    assert path.read_bytes() == whole.read_bytes()


def test_provenance_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="JSON"):
        run(tmp_path / "aug.h5", provenance={"path": tmp_path})


def test_the_bar_starts_at_what_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(4))
    assert capfd.readouterr().err == ""
    run(tmp_path / "aug.h5", progress=True)
    shown = capfd.readouterr().err
    assert "32/44" in re.split(r"\r", shown)[1]
    assert "44/44" in shown


# One process that forks a child for every kill: importing torch anew each time would take seconds.
KILLS = """
import os, pathlib, random, signal, time
from munitaug.offline import plan
from tests.offline import toys as toy
plan.PART_BYTES = {part_bytes}
path, whole, draws = pathlib.Path({path!r}), pathlib.Path({whole!r}).read_bytes(), random.Random(0)
folder = path.with_name(path.name + ".parts")
for kill in range({kills}):
    if path.exists() and not (folder / "plan.json").exists():  # the run was through before it could be killed
        assert path.read_bytes() == whole
        path.unlink()
    child = os.fork()
    if child == 0:
        toy.run(path, should_stop=lambda: time.sleep(0.01))
        os._exit(0)
    time.sleep(draws.uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    assert not path.exists() or path.read_bytes() == whole
    print(status, flush=True)
if not path.exists() or (folder / "plan.json").exists():
    toy.run(path)
elif folder.exists():
    folder.rmdir()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize("kills", [16, pytest.param(50, marks=pytest.mark.slow)])
def test_runs_that_are_killed_again_and_again_give_the_same_bytes(tmp_path: Path, whole: Path, kills: int) -> None:
    path = tmp_path / "aug.h5"
    script = KILLS.format(part_bytes=plan.PART_BYTES, path=str(path), whole=str(whole), kills=kills)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    statuses = [int(line) for line in done.stdout.split()]
    assert len(statuses) == kills
    assert statuses.count(signal.SIGKILL) >= kills // 2
    assert contents(path) == contents(whole)
    assert path.read_bytes() == whole.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["aug.h5"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_hdf5_that_cannot_write_the_output_leaves_the_parts(tmp_path: Path, whole: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    part = 16 * 3 * SIDE * SIDE + 14000  # a part fits, the whole file does not
    resource.setrlimit(resource.RLIMIT_FSIZE, (part, limits[1]))
    try:
        with pytest.raises(OSError, match="disk full: 44 of 44 images are safe"):
            run(tmp_path / "aug.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = sorted(file.name for file in (tmp_path / "aug.h5.parts").iterdir())
    assert names == ["lock", "part-00000.h5", "part-00001.h5", "part-00002.h5", "plan.json"]
    assert run(tmp_path / "aug.h5").read_bytes() == whole.read_bytes()


def test_parts_that_no_run_has_left_stay(tmp_path: Path, whole: Path) -> None:
    foreign = tmp_path / "aug.h5.parts" / "part-00007.h5"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds parts of another origin, without plan\.json; move it away"):
        run(tmp_path / "aug.h5")
    assert foreign.read_text() == "mine"
    assert run(tmp_path / "aug.h5", overwrite=True).read_bytes() == whole.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB; skips where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # refused while a file of it is open


@pytest.mark.parametrize("check_room", [True, False])
def test_a_disk_that_is_really_full(
    small_disk: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, check_room: bool
) -> None:
    path, ballast = small_disk / "aug.h5", small_disk / "ballast"
    ballast.write_bytes(bytes(60 * 1024))
    with pytest.raises(OSError, match="disk full: 16 of 44 images are safe"):
        run(path)
    assert sorted(file.name for file in (small_disk / "aug.h5.parts").iterdir()) == [
        "lock",
        "part-00000.h5",
        "plan.json",
    ]
    ballast.unlink()
    if not check_room:  # HDF5 itself meets the full disk
        usage = shutil.disk_usage(small_disk)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(OSError, match="disk full: 44 of 44 images are safe"):
        run(path)
    assert not path.exists()
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    assert run(path).read_bytes() == whole.read_bytes()
    assert [file.name for file in small_disk.iterdir()] == ["aug.h5"]


def test_other_source_images_are_another_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from munitaug.offline import plan

    monkeypatch.setattr(plan, "PART_BYTES", 8 * 2 * 3 * 16 * 16)
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    domain = make_domain()
    others = ArrayDomain("toy", 255 - domain.images(range(len(domain))), domain.labels, domain.class_names)
    with pytest.raises(ValueError, match=r"config\.source_sha256 was"):
        run(tmp_path / "aug.h5", domain=others)


@pytest.mark.parametrize(("name", "value"), [("precision", "bfloat16"), ("compiled", True)])
def test_another_way_of_computing_is_another_run(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    translator = Toy()
    setattr(translator, name, value)
    with pytest.raises(ValueError, match=f"{name} was"):
        run(tmp_path / "aug.h5", translator=translator)


def test_parts_are_not_thrown_away_with_a_damaged_plan(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    (tmp_path / "aug.h5.parts" / "plan.json").write_text("null")
    with pytest.raises(ValueError, match="holds an unfinished run with other arguments"):
        run(tmp_path / "aug.h5")
    assert (tmp_path / "aug.h5.parts" / "part-00000.h5").exists()


class Twin(Toy):
    """Of the same weights, but another class."""


def test_another_class_of_the_same_weights_is_another_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    with pytest.raises(ValueError, match="weights_sha256 was"):
        run(tmp_path / "aug.h5", translator=Twin())


def test_parts_of_another_size_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "aug.h5", should_stop=stop_after(3))
    monkeypatch.setattr(plan, "PART_BYTES", 2 * plan.PART_BYTES)
    with pytest.raises(ValueError, match="items_per_part was 8, now 16"):
        run(tmp_path / "aug.h5")


def test_an_image_damaged_in_a_finished_part_does_not_get_into_the_file(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "aug.h5"
    with pytest.raises(Interrupted):
        run(path, should_stop=stop_after(3), compression="none")
    part = tmp_path / "aug.h5.parts" / "part-00000.h5"
    with h5py.File(part, "r+") as file:
        file["images"][3, 2, 2, 0] ^= 1
    with pytest.raises(OSError, match="image 3 is not what was written; run the same command again"):
        run(path, compression="none")
    assert contents(run(path, compression="none"))["images"] == contents(whole)["images"]
