"""Generation in shards: any number of processes gives the same bytes, and nothing but a lost shard is made again."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from munitaug.data.hdf5 import AugmentedDataset, AugmentedFileError
from munitaug.offline import Stripe, plan
from munitaug.styles import PriorStyles
from munitaug.types import Interrupted
from tests.offline.toys import ITEMS, Toy, contents, make_domain, run, stop_after

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 5
NAMES = [f"aug-{shard:05d}-of-00005.h5" for shard in range(SHARDS)]


def shards(path: Path, **changes: object) -> Path:
    return run(path, **({"shards": SHARDS} | changes))


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All files of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    shards(folder / "aug.h5")
    return all_bytes(folder)


def test_the_index_reads_as_the_one_file_of_a_run_without_shards(tmp_path: Path) -> None:
    one, many = run(tmp_path / "one.h5"), shards(tmp_path / "aug.h5")
    first, second = contents(one), contents(many)
    listed = json.loads(second.pop("shards"))
    own = ("content_sha256",)
    assert {name: value for name, value in first.items() if name not in own} == {
        name: value for name, value in second.items() if name not in own
    }
    assert [name for name, *_ in listed] == NAMES
    assert [rows for _, rows, *_ in listed] == [8, 8, 10, 8, 10]  # 22 images: 4, 4, 5, 4, 5; two variants of each
    plain, indexed = AugmentedDataset(one), AugmentedDataset(many)
    for row in range(2 * ITEMS):
        assert torch.equal(plain[row][0], indexed[row][0])
        assert plain[row][1] == indexed[row][1]
        assert torch.equal(plain.style(row), indexed.style(row))
    indexed.check()


def test_nothing_else_is_left(whole: dict[str, bytes]) -> None:
    assert list(whole) == sorted([*NAMES, "aug.h5"])


def test_a_shard_is_a_file_of_its_own(tmp_path: Path) -> None:
    path = shards(tmp_path / "aug.h5")
    part, index = AugmentedDataset(tmp_path / NAMES[2]), AugmentedDataset(path)
    assert part.source_indices.tolist() == [8, 8, 9, 9, 10, 10, 11, 11, 12, 12]
    assert torch.equal(part[3][0], index[16 + 3][0])


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_any_number_of_ranks_gives_the_same_bytes(tmp_path: Path, whole: dict[str, bytes], ranks: int) -> None:
    for rank in reversed(range(ranks)):
        assert not (tmp_path / "aug.h5").exists() or rank >= SHARDS
        shards(tmp_path / "aug.h5", stripe=Stripe(rank, ranks))
    assert all_bytes(tmp_path) == whole


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_do_not_cross_shards(tmp_path: Path, whole: dict[str, bytes], batch_size: int) -> None:
    shards(tmp_path / "aug.h5", batch_size=batch_size)
    assert all_bytes(tmp_path) == whole


def test_one_to_one_methods_have_empty_codes_in_shards_too(tmp_path: Path) -> None:
    path = shards(tmp_path / "aug.h5", variants=1, translator=Toy(style_dim=0), styles=PriorStyles(0))
    assert AugmentedDataset(path).style(3).shape == (0,)


def test_a_late_rank_of_a_finished_run_has_nothing_to_do(tmp_path: Path, whole: dict[str, bytes]) -> None:
    shards(tmp_path / "aug.h5")
    shards(tmp_path / "aug.h5", stripe=Stripe(6, 7))
    assert all_bytes(tmp_path) == whole
    with pytest.raises(FileExistsError, match="exists already"):
        shards(tmp_path / "aug.h5")
    with pytest.raises(FileExistsError, match="exists already"):
        shards(tmp_path / "aug.h5", stripe=Stripe(6, 7), seed=1)


def test_overwriting_by_ranks_makes_a_damaged_output_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = shards(tmp_path / "aug.h5")
    with h5py.File(tmp_path / NAMES[2]) as file:
        place = file["images"].id.get_chunk_info(0).byte_offset
    with open(tmp_path / NAMES[2], "r+b") as raw:
        raw.seek(place)
        first = raw.read(1)[0]
        raw.seek(place)
        raw.write(bytes([first ^ 1]))
    with pytest.raises(AugmentedFileError):
        AugmentedDataset(path).check()
    for rank in (1, 0):
        shards(path, stripe=Stripe(rank, 2), overwrite=True)
    assert all_bytes(tmp_path) == whole


@pytest.mark.parametrize("together", [True, False])
def test_an_index_behind_a_link_finds_its_shards(tmp_path: Path, together: bool) -> None:
    path = shards(tmp_path / "real" / "aug.h5")
    linked = tmp_path / "linked"
    linked.mkdir()
    if together:  # each file is a link, as in a cache whose files have other names
        for file in list(path.parent.iterdir()):
            blob = file.rename(path.parent / f"blob-{file.name}")
            (linked / file.name).symlink_to(blob)
    else:
        (linked / "mine.h5").symlink_to(path)
    AugmentedDataset(linked / ("aug.h5" if together else "mine.h5")).check()


@pytest.mark.parametrize("batches", [0, 1, 3, 5])
def test_only_the_open_shard_is_made_again(
    tmp_path: Path, whole: dict[str, bytes], batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "aug.h5"  # shards of 4, 4, 5, 4, 5 images are 1, 1, 2, 1, 2 batches of 4
    finished = [0, 1, 2, 2, 3, 4][batches]
    with pytest.raises(Interrupted, match=r"images are safe in .*run the same command again"):
        shards(path, should_stop=stop_after(batches))
    kept = sorted(file.name for file in (tmp_path / "aug.h5.parts").glob("*.h5"))
    assert kept == NAMES[:finished]
    domain, seen = make_domain(), list[int]()
    read = domain.images

    def watched(items: range) -> torch.Tensor:
        seen.extend(items)
        return read(items)

    monkeypatch.setattr(domain, "images", watched)
    shards(path, domain=domain)
    assert seen == list(range([0, 4, 8, 13, 17][finished] if finished < SHARDS else ITEMS, ITEMS))
    assert all_bytes(tmp_path) == whole


def test_a_damaged_shard_of_an_unfinished_run_is_made_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(Interrupted):
        shards(tmp_path / "aug.h5", should_stop=stop_after(4))
    first, second, _ = sorted((tmp_path / "aug.h5.parts").glob("*.h5"))
    first.write_bytes(first.read_bytes()[:3000])
    second.write_bytes(whole[NAMES[4]])
    (tmp_path / "aug.h5.parts" / f"{NAMES[3]}.tmp").write_text("left by a kill")
    (tmp_path / "aug.h5.parts" / f"{NAMES[3]}.lock").write_text("left by a kill")
    (tmp_path / "aug.h5.parts" / "rank-00000").write_text("left by a kill")
    shards(tmp_path / "aug.h5", stripe=Stripe(0, 2))
    shards(tmp_path / "aug.h5", stripe=Stripe(1, 2))
    assert all_bytes(tmp_path) == whole


def test_a_shard_that_is_damaged_before_the_end_is_named(tmp_path: Path, whole: dict[str, bytes]) -> None:
    first, asked = tmp_path / "aug.h5.parts" / NAMES[0], list[bool]()

    def damage() -> bool:
        asked.append(True)
        if len(asked) == 7:  # shards of 1, 1, 2, 1, 2 batches: the last one
            first.write_bytes(first.read_bytes()[:-1])
        return False

    with pytest.raises(OSError, match=r"aug-00000-of-00005\.h5 in .* is not what was written; run the same command"):
        shards(tmp_path / "aug.h5", should_stop=damage)
    assert not (tmp_path / "aug.h5").exists()
    shards(tmp_path / "aug.h5")
    assert all_bytes(tmp_path) == whole


def test_a_file_called_as_a_shard_is_left_alone(tmp_path: Path, whole: dict[str, bytes]) -> None:
    (tmp_path / NAMES[4]).write_text("mine")
    for stripe in (Stripe(), Stripe(0, 2)):
        with pytest.raises(FileExistsError, match=r"exists already .*aug-00004-of-00005\.h5"):
            shards(tmp_path / "aug.h5", stripe=stripe)
        assert os.listdir(tmp_path) == [NAMES[4]]
    shards(tmp_path / "aug.h5", overwrite=True)
    assert all_bytes(tmp_path) == whole


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="this file system has no file locks"):
        shards(tmp_path / "aug.h5")


@pytest.mark.parametrize("moves", range(SHARDS + 1))
def test_a_kill_while_shards_are_moved_loses_nothing(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    move, left = Path.replace, iter(range(moves))

    def killed(self: Path, target: Path) -> Path:
        if self.parent != Path(target).parent and next(left, None) is None:
            raise KeyboardInterrupt
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            shards(tmp_path / "aug.h5")
    assert not (tmp_path / "aug.h5").exists()
    assert sum((tmp_path / name).exists() for name in NAMES) == moves
    shards(tmp_path / "aug.h5")
    assert all_bytes(tmp_path) == whole


def test_overwriting_keeps_the_old_files_until_the_new_ones_are_whole(tmp_path: Path, whole: dict[str, bytes]) -> None:
    shards(tmp_path / "aug.h5", seed=1)
    old = all_bytes(tmp_path)
    with pytest.raises(Interrupted):
        shards(tmp_path / "aug.h5", overwrite=True, should_stop=stop_after(5))
    assert {name: (tmp_path / name).read_bytes() for name in old} == old
    AugmentedDataset(tmp_path / "aug.h5").check()
    shards(tmp_path / "aug.h5", overwrite=True)
    assert all_bytes(tmp_path) == whole


@pytest.mark.parametrize("count", [0, 3])
def test_shards_of_a_replaced_index_go(tmp_path: Path, count: int) -> None:
    shards(tmp_path / "aug.h5")
    (tmp_path / "aug-mine.h5").write_text("mine")
    shards(tmp_path / "aug.h5", shards=count, overwrite=True)
    names = [f"aug-{shard:05d}-of-00003.h5" for shard in range(count)]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names, "aug-mine.h5", "aug.h5"])


@pytest.mark.parametrize(("first", "second"), [(Stripe(), Stripe()), (Stripe(0, 2), Stripe(0, 2))])
def test_a_second_writer_is_refused(tmp_path: Path, whole: dict[str, bytes], first: Stripe, second: Stripe) -> None:
    def meanwhile() -> bool:
        with pytest.raises(BlockingIOError, match=r"another process is writing to .*parts"):
            shards(tmp_path / "aug.h5", stripe=second)
        return False

    shards(tmp_path / "aug.h5", stripe=first, should_stop=meanwhile)
    if first.ranks > 1:
        shards(tmp_path / "aug.h5", stripe=Stripe(1, 2))
    assert all_bytes(tmp_path) == whole


def test_one_process_alone_keeps_out_of_a_run_of_many(tmp_path: Path) -> None:
    def alone() -> bool:
        with pytest.raises(BlockingIOError, match="another process is writing to"):
            shards(tmp_path / "aug.h5")
        return False

    shards(tmp_path / "aug.h5", stripe=Stripe(0, 2), should_stop=alone)


def test_runs_of_different_numbers_of_ranks_cannot_write_one_shard(tmp_path: Path, whole: dict[str, bytes]) -> None:
    asked: list[bool] = []

    def third_of_three() -> bool:
        asked.append(True)
        if len(asked) == 3:  # shard 2 is open: its first batch is made, its second is not
            while not (tmp_path / "aug.h5.parts" / f"{NAMES[2]}.lock").exists():
                pass
            with pytest.raises(BlockingIOError, match=r"writing .*aug-00002-of-00005\.h5; start each run once"):
                shards(tmp_path / "aug.h5", stripe=Stripe(2, 3))
        return False

    shards(tmp_path / "aug.h5", stripe=Stripe(0, 2), should_stop=third_of_three)
    assert len(asked) == 5
    shards(tmp_path / "aug.h5", stripe=Stripe(1, 2))
    assert all_bytes(tmp_path) == whole


def test_shards_and_ranks_out_of_range_are_refused(tmp_path: Path) -> None:
    for count in (-1, ITEMS + 1):
        with pytest.raises(ValueError, match=rf"shards must be 0 \(one file\) to 22 \(of 22 images\), got {count}"):
            run(tmp_path / "aug.h5", shards=count)
    with pytest.raises(ValueError, match="rank must be 0 to 1 of 2 ranks, got 2"):
        Stripe(2, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_an_index_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'aug\\udcff.h5' is not UTF-8, as names in an index of shards"):
        shards(tmp_path / os.fsdecode(b"aug\xff.h5"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2026-11-22T22:46.h5", "a\\b.h5"])
def test_a_name_that_no_reader_would_follow_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r'has ":" or a backslash in it.*choose another name'):
        shards(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    AugmentedDataset(run(tmp_path / name)).check()


def test_another_number_of_shards_is_another_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        shards(tmp_path / "aug.h5", should_stop=stop_after(3))
    with pytest.raises(ValueError, match="shards was 5, now 4"):
        shards(tmp_path / "aug.h5", shards=4)


def test_any_reader_of_hdf5_reads_the_index(tmp_path: Path) -> None:
    """Another process, with h5py alone."""
    path = shards(tmp_path / "100%b aug.h5", compression="gzip")
    code = (
        "import h5py, sys; f = h5py.File(sys.argv[1]); print(f['images'].shape, f['images'][:].sum(), f['style'][9, 0])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    dataset = AugmentedDataset(path)
    total = sum(int(dataset[row][0].sum()) for row in range(len(dataset)))
    assert done.stdout.split() == ["(44,", "16,", "16,", "3)", str(total), str(np.float32(dataset.style(9)[0]))]


def change(folder: Path, how: str) -> None:
    shard = folder / NAMES[3]
    if how == "missing":
        shard.unlink()
    elif how == "truncated":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif how == "another":
        other = folder / "elsewhere"
        other.mkdir()
        shards(other / "aug.h5", seed=9)
        (other / NAMES[3]).replace(shard)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "is not there; copy it beside its index"),
        ("truncated", "bytes, but its index says"),
        ("another", "does not have the SHA-256 that its index states"),
    ],
)
def test_a_bad_shard_is_named_when_the_index_is_opened(tmp_path: Path, how: str, message: str) -> None:
    path = shards(tmp_path / "aug.h5")
    change(tmp_path, how)
    with pytest.raises(AugmentedFileError, match=rf"aug-00003-of-00005\.h5.*{message}"):
        AugmentedDataset(path)


@pytest.mark.parametrize("compression", ["lzf", "gzip", "none"])
def test_one_changed_bit_of_an_image_is_found_and_named(tmp_path: Path, compression: str) -> None:
    path = shards(tmp_path / "aug.h5", compression=compression)
    shard = tmp_path / NAMES[1]
    with h5py.File(shard) as file:
        place = file["images"].id.get_chunk_info(5).byte_offset + 100
    damaged = bytearray(shard.read_bytes())
    damaged[place] ^= 8
    shard.write_bytes(damaged)
    dataset = AugmentedDataset(path)
    assert dataset[12][0].shape == (3, 16, 16)
    for read in (lambda: dataset[8 + 5], dataset.check, lambda: dataset.__getitems__([0, 13])):
        with pytest.raises(AugmentedFileError, match=r"aug-00001-of-00005\.h5 is damaged: image 5 is not what was"):
            read()


@pytest.mark.parametrize("name", ["../secret.h5", "/etc/passwd", "..", "", "a\\b.h5", "c:x.h5"])
def test_an_index_that_names_files_elsewhere_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shards(tmp_path / "aug.h5")
    with h5py.File(path, "r+") as file:
        listed = json.loads(file.attrs["shards"])
        listed[0][0] = name
        file.attrs["shards"] = json.dumps(listed)
    with pytest.raises(AugmentedFileError, match="is damaged: its rows or attributes"):
        AugmentedDataset(path)
    monkeypatch.setattr("munitaug.data.augmented_file.content_sha256", lambda attributes, columns: "the right one")
    with h5py.File(path, "r+") as file:
        file.attrs["content_sha256"] = "the right one"
    with pytest.raises(AugmentedFileError, match="shards lie beside their index only"):
        AugmentedDataset(path)


def test_many_shards_keep_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("munitaug.data.hdf5.MAX_OPEN_FILES", 2)
    dataset = AugmentedDataset(shards(tmp_path / "aug.h5", shards=ITEMS))
    plain = AugmentedDataset(run(tmp_path / "one.h5"))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for row in (*range(len(plain)), 3, 40, 3):
        assert torch.equal(dataset[row][0], plain[row][0])
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 3  # two shards, and the one file of plain


def test_a_shard_that_is_replaced_while_others_are_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("munitaug.data.hdf5.MAX_OPEN_FILES", 1)
    dataset, other = AugmentedDataset(shards(tmp_path / "aug.h5")), tmp_path / "other"
    other.mkdir()
    shards(other / "aug.h5", seed=1)
    (dataset[0], dataset[10])
    (other / NAMES[0]).replace(tmp_path / NAMES[0])
    with pytest.raises(AugmentedFileError, match=r"aug-00000-of-00005\.h5 was replaced while it was being read"):
        dataset[0]


def test_a_full_disk_keeps_finished_shards(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 9:  # plan and its folder, room, shard and folder of shards 0 and 1, room of shard 2 ...
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"disk full: 16 of 44 images are safe in .*run the same command"):
            shards(tmp_path / "aug.h5")
    assert sorted(file.name for file in (tmp_path / "aug.h5.parts").iterdir()) == [*NAMES[:2], "lock", "plan.json"]
    shards(tmp_path / "aug.h5")
    assert all_bytes(tmp_path) == whole


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write to: for root a read-only file system, since modes do not stop root."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root:
        words = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting is not allowed here")
    yield folder
    if is_root:
        subprocess.run(["umount", str(folder)], check=True)
    folder.chmod(0o755)


@pytest.mark.parametrize("count", [0, SHARDS])
def test_a_read_only_folder_is_named(read_only: Path, count: int) -> None:
    with pytest.raises(OSError, match=r"(Read-only file system|Permission denied).*aug\.h5\.parts"):
        shards(read_only / "aug.h5", shards=count)
    assert list(read_only.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [0, 4])
def test_memory_stays_flat_over_200000_images(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PART_BYTES", 16 * 2**20)
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    resident: list[float] = []

    def look() -> bool:
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
        return False

    path = shards(tmp_path / "aug.h5", domain=make_domain(items=50_000), variants=4, batch_size=64, shards=count,
                  compression="none", should_stop=look)  # fmt: skip
    assert len(AugmentedDataset(path)) == 200_000  # 154 MB of pixels
    quarter = len(resident) // 4
    assert max(resident[quarter:]) - max(resident[:quarter]) < 24


# Ranks are forked from one process: importing torch anew for each would take seconds.
KILLED_RANKS = """
import os, pathlib, random, signal, time
from munitaug.offline import Stripe, plan
from tests.offline import toys as toy
path, draws, ranks, killed = pathlib.Path({path!r}), random.Random(1), 3, 0
def start(rank, slow):
    child = os.fork()
    if child == 0:
        toy.run(path, shards=5, stripe=Stripe(rank, ranks), should_stop=lambda: time.sleep(slow))
        os._exit(0)
    return child
for attempt in range({attempts}):
    if not path.with_name(path.name + ".parts").exists():  # nothing begun, or all is through: begin anew
        for file in path.parent.iterdir():
            file.unlink()
    children = [start(rank, 0.03) for rank in range(ranks)]
    time.sleep(draws.uniform(0.0, 0.15))
    os.kill(children[draws.randrange(ranks)], signal.SIGKILL)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    killed += signal.SIGKILL in statuses
    assert all(status in (0, signal.SIGKILL) for status in statuses), statuses
    print(killed, flush=True)
for status in [os.waitpid(child, 0)[1] for child in [start(rank, 0) for rank in range(ranks)]]:
    assert status == 0, status
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize("attempts", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_ranks_that_are_killed_and_started_again_give_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], attempts: int
) -> None:
    script = KILLED_RANKS.format(path=str(tmp_path / "aug.h5"), attempts=attempts)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 2
    assert all_bytes(tmp_path) == whole


def test_a_late_rank_of_another_number_of_shards_is_refused(tmp_path: Path) -> None:
    shards(tmp_path / "aug.h5")
    with pytest.raises(FileExistsError, match="exists already"):
        shards(tmp_path / "aug.h5", shards=3, stripe=Stripe(1, 2))


def test_a_late_rank_does_not_take_an_output_without_its_shards_for_finished(tmp_path: Path) -> None:
    shards(tmp_path / "aug.h5")
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(FileExistsError, match="exists already"):
        shards(tmp_path / "aug.h5", stripe=Stripe(6, 7))
