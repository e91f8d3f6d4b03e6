"""The pairs of the digit benchmark, opened from small files that the tests write."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import munitaug
from benchmarks import pairs
from benchmarks.pairs import PAIRS, FolderPair, PairMissingError, open_pair
from munitaug.data import ArrayDomain

MNIST_COUNTS = {"train": 30, "t10k": 12}
USPS_COUNTS = {"train": 20, "test": 8}


@pytest.fixture
def few_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "RENDERED_IMAGES", {("synthetic", "train"): 6, ("synthetic-rgb", "train"): 5})
    monkeypatch.setattr(pairs, "RENDERED_TEST_IMAGES", 3)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """MNIST, USPS and SVHN in small: MNIST's image i is filled with i + 1, USPS's with 100, SVHN's image is drawn."""
    raw = tmp_path / "files" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in MNIST_COUNTS.items():
        images = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None], (count, 28, 28))
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x0803, count, 28, 28) + images.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, count) + labels.tobytes())
    root = tmp_path / "files"
    with h5py.File(root / "usps.h5", "w") as archive:
        for split, count in USPS_COUNTS.items():
            archive[f"{split}/data"] = np.full((count, 256), 100 / 255)
            archive[f"{split}/target"] = np.arange(count) % 10
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("test", 4)):
        images = rng.integers(0, 256, size=(32, 32, 3, count), dtype=np.uint8)
        digits = np.array([10, 1, 2, 3, 9, 5, 6][:count], dtype=np.uint8)[:, None]
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": digits})
    return root


def photographs(folder: Path) -> Path:
    folder.mkdir()
    Image.fromarray(np.full((40, 50, 3), (10, 200, 30), dtype=np.uint8)).save(folder / "plain.png")
    return folder


def write_classes(folder: Path, names: tuple[str, ...], count: int) -> str:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(np.full((20, 20, 3), 10 * index, dtype=np.uint8)).save(folder / name / f"{index}.png")
    return str(folder)


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_has_one_size_and_labels_where_they_are_needed(
    name: str, data_root: Path, tmp_path: Path, few_rendered: None
) -> None:
    recipe = PAIRS[name]
    pair = open_pair(name, data_root=data_root, photographs=photographs(tmp_path / "photographs"))
    assert pair.source_test is not None
    for domain in (pair.source, pair.target, pair.target_test, pair.source_test):
        shape = (recipe.channels, recipe.size, recipe.size)
        assert tuple(domain.images(range(len(domain))).shape) == (len(domain), *shape)
        assert len(domain.require_labels()) == len(domain)
        assert domain.class_names == tuple("0123456789")
    assert (pair.size, pair.channels) == (recipe.size, recipe.channels)


def test_the_pairs_are_those_of_the_table() -> None:
    shapes = {name: (recipe.size, recipe.channels) for name, recipe in PAIRS.items()}
    assert shapes == {
        "svhn:mnist": (32, 3),
        "mnist:usps": (28, 1),
        "usps:mnist": (28, 1),
        "synthetic:digits": (16, 1),
        "synthetic-rgb:digits": (32, 3),
        "synthetic-rgb:usps": (32, 3),
        "synthetic-rgb:mnist": (32, 3),
        "synthetic-rgb:svhn": (32, 3),
        "mnist:mnist-m": (28, 3),
    }


def test_svhn_is_read_and_its_ten_is_a_zero(data_root: Path) -> None:
    pair = open_pair("svhn:mnist", data_root=data_root)
    expected = np.random.default_rng(0).integers(0, 256, size=(32, 32, 3, 7), dtype=np.uint8)
    assert pair.source[2][0][1, 3, 4] == expected[3, 4, 1, 2]
    assert pair.source.require_labels().tolist() == [0, 1, 2, 3, 9, 5, 6]
    assert (len(pair.source), len(pair.target), len(pair.target_test)) == (7, 30, 12)


def test_where_svhn_is_absent_it_is_said_which_file_is_missing(data_root: Path) -> None:
    (data_root / "train_32x32.mat").unlink()
    with pytest.raises(PairMissingError, match=r"svhn:mnist cannot be opened: svhn:train needs one of train_32x32.mat"):
        open_pair("svhn:mnist", data_root=data_root)
    assert len(open_pair("mnist:usps", data_root=data_root).source) == 30


def test_at_32_px_digits_stand_in_a_black_frame(data_root: Path, few_rendered: None) -> None:
    """MNIST 28 in 32 leaves 2 px at each side, USPS at 22 in 32 leaves 5."""
    mnist = open_pair("synthetic-rgb:mnist", data_root=data_root).target[4][0]
    assert torch.equal(mnist[:, 2:30, 2:30], torch.full((3, 28, 28), 5, dtype=torch.uint8))
    assert mnist.sum() == 3 * 28 * 28 * 5
    usps = open_pair("synthetic-rgb:usps", data_root=data_root).target[0][0]
    assert torch.equal(usps[:, 5:27, 5:27], torch.full((3, 22, 22), 100, dtype=torch.uint8))
    assert usps.sum(dtype=torch.int64) == 3 * 22 * 22 * 100


def test_the_sampled_protocol_draws_images_with_the_seed_and_leaves_the_tests_whole(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "SAMPLED_IMAGES", {"mnist": 11, "usps": 9})
    drawn = []
    for seed in (0, 0, 1):
        pair = open_pair("mnist:usps", data_root=data_root, protocol="sampled", seed=seed)
        assert (len(pair.source), len(pair.target), len(pair.target_test)) == (11, 9, 8)
        levels = pair.source.images(range(11))[:, 0, 0, 0]
        assert len(set(levels.tolist())) == 11
        assert torch.equal((levels.long() - 1) % 10, pair.source.require_labels())
        drawn.append(levels.tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_sampled_images_are_two_thousand_and_eighteen_hundred() -> None:
    assert pairs.SAMPLED_IMAGES == {"mnist": 2000, "usps": 1800}


def test_few_target_images_are_drawn_with_the_seed_and_all_else_stays_whole(data_root: Path) -> None:
    whole = open_pair("usps:mnist", data_root=data_root)
    drawn = {}
    for seed, count in ((0, 3), (0, 5), (1, 5)):
        few = open_pair("usps:mnist", data_root=data_root, seed=seed, target_images=count)
        assert (len(few.source), len(few.target_test)) == (len(whole.source), len(whole.target_test))
        levels = few.target.images(range(count))[:, 0, 0, 0]
        assert len(few.target) == len(set(levels.tolist())) == count
        assert torch.equal((levels.long() - 1) % 10, few.target.require_labels())
        drawn[seed, count] = levels.tolist()
    assert drawn[0, 5][:3] == drawn[0, 3]
    assert drawn[0, 5] != drawn[1, 5]


def test_few_target_images_of_ones_own_need_no_labels(tmp_path: Path) -> None:
    source, target = (write_classes(tmp_path / name, ("cat", "dog"), 3) for name in ("source", "target"))
    folders = FolderPair(source, f"{target}/cat", target, size=16, channels=1)
    few = open_pair("mine", folders=folders, target_images=2).target
    assert (len(few), few.labels) == (2, None)


@pytest.mark.parametrize(
    ("count", "message"), [(-1, "target_images must be 0 .all. or positive, got -1"), (10_000, "not 10000")]
)
def test_more_target_images_than_there_are_and_fewer_than_none_are_refused(
    data_root: Path, count: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_pair("mnist:usps", data_root=data_root, target_images=count)


def test_full_sets_do_not_depend_on_the_seed(data_root: Path, few_rendered: None) -> None:
    first, again = (open_pair("synthetic-rgb:usps", data_root=data_root, seed=seed) for seed in (0, 1))
    assert torch.equal(first.source.images(range(5)), again.source.images(range(5)))


def test_other_pairs_have_no_sampled_protocol(data_root: Path) -> None:
    with pytest.raises(PairMissingError, match="only mnist:usps and usps:mnist"):
        open_pair("svhn:mnist", data_root=data_root, protocol="sampled")


def test_mnist_m_is_the_difference_of_photograph_and_digit(data_root: Path, tmp_path: Path) -> None:
    """One photograph of one colour, digits of one level: |colour - level| everywhere."""
    pair = open_pair("mnist:mnist-m", data_root=data_root, photographs=photographs(tmp_path / "photographs"))
    assert pair.target[19][0][:, 9, 9].tolist() == [10, 180, 10]
    assert pair.source[19][0][:, 9, 9].tolist() == [20, 20, 20]


def test_without_photographs_mnist_m_says_what_it_needs(data_root: Path) -> None:
    with pytest.raises(PairMissingError, match="--photographs"):
        open_pair("mnist:mnist-m", data_root=data_root)


def test_rendered_sets_are_kept_and_read_again(
    data_root: Path, tmp_path: Path, few_rendered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    opened, real = Counter[str](), munitaug.open_domain
    fresh = open_pair("synthetic-rgb:usps", data_root=data_root, cache=cache)

    def counted(spec: str, **options: object) -> munitaug.ImageDomain:
        opened[spec] += 1
        return real(spec, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(munitaug, "open_domain", counted)
    again = open_pair("synthetic-rgb:usps", data_root=data_root, cache=cache)
    assert opened == {"usps:train": 1, "usps:test": 1}
    assert torch.equal(again.source.images(range(5)), fresh.source.images(range(5)))
    assert again.source.require_labels().tolist() == fresh.source.require_labels().tolist()
    assert (again.source.name, again.source.class_names) == (fresh.source.name, fresh.source.class_names)
    assert sorted(file.suffix for file in cache.iterdir()) == [".npz", ".npz"]


@pytest.mark.parametrize("fault", ["damaged", "other facts"])
def test_a_kept_file_that_is_damaged_or_of_other_facts_is_made_anew(tmp_path: Path, fault: str) -> None:
    def domain(level: int) -> munitaug.ImageDomain:
        images = torch.full((2, 1, 16, 16), level, dtype=torch.uint8)
        return ArrayDomain("made", images, torch.tensor([0, 1]), ("a", "b"))

    pairs.kept(tmp_path, {"count": 2}, lambda: domain(7))
    [path] = tmp_path.iterdir()
    assert pairs.kept(tmp_path, {"count": 2}, lambda: domain(8))[0][0].max() == 7
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:200])
    else:
        pairs.kept(tmp_path / "other", {"count": 3}, lambda: domain(9))
        [other] = (tmp_path / "other").iterdir()
        other.replace(path)
    assert pairs.kept(tmp_path, {"count": 2}, lambda: domain(8))[0][0].max() == 8
    assert pairs.kept(tmp_path, {"count": 2}, lambda: domain(9))[0][0].max() == 8


def test_two_folders_are_a_pair(tmp_path: Path) -> None:
    source = write_classes(tmp_path / "source", ("cat", "dog"), 3)
    target = str(tmp_path / "target" / "cat")
    test = write_classes(tmp_path / "target", ("cat", "dog"), 2)
    pair = open_pair("mine", folders=FolderPair(source, target, test, size=16, channels=1))
    assert (len(pair.source), len(pair.target), len(pair.target_test), pair.source_test) == (6, 2, 4, None)
    assert pair.target.labels is None
    assert pair.source[0][0].shape == pair.target[0][0].shape == (1, 16, 16)


def test_folders_need_labels_and_the_same_classes(tmp_path: Path) -> None:
    source = write_classes(tmp_path / "source", ("cat", "dog"), 1)
    test = write_classes(tmp_path / "target", ("cat", "cow"), 1)
    with pytest.raises(PairMissingError, match=r"has the classes cat, cow, but .* has cat, dog; name the sub-folders"):
        open_pair("mine", folders=FolderPair(source, source, test))
    with pytest.raises(PairMissingError, match="has no labels; make one sub-folder per class"):
        open_pair("mine", folders=FolderPair(source, source, f"{source}/cat"))


def test_an_unknown_pair_or_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair 'mnist:usp'; did you mean mnist:usps"):
        open_pair("mnist:usp")
    with pytest.raises(ValueError, match="protocol must be one of full, sampled, got 'half'"):
        open_pair("mnist:usps", protocol="half")


def test_sets_that_were_rendered_with_other_fonts_are_not_taken(
    data_root: Path, tmp_path: Path, few_rendered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    open_pair("synthetic-rgb:usps", data_root=data_root, cache=cache)
    monkeypatch.setattr(pairs, "version", lambda name: "0.0")
    open_pair("synthetic-rgb:usps", data_root=data_root, cache=cache)
    assert len(list(cache.iterdir())) == 4


def test_a_labelled_target_needs_the_same_classes(tmp_path: Path) -> None:
    source = write_classes(tmp_path / "source", ("cat", "dog"), 1)
    target = write_classes(tmp_path / "target", ("cat", "cow"), 1)
    with pytest.raises(PairMissingError, match=r"target has the classes cat, cow, but .*source has cat, dog"):
        open_pair("mine", folders=FolderPair(source, target, source))


def test_sets_that_other_code_rendered_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = pairs._renderer()
    for name in pairs.RENDERING_SOURCES:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("changed")
    monkeypatch.setattr(munitaug, "__file__", str(tmp_path / "__init__.py"))
    assert pairs._renderer() != here


def test_rendered_test_sets_have_their_own_number(data_root: Path, few_rendered: None) -> None:
    pair = open_pair("synthetic-rgb:usps", data_root=data_root)
    assert pair.source_test is not None
    assert (len(pair.source), len(pair.source_test)) == (5, 3)
