from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from munitaug.data import digits
from munitaug.data.digits import DIGITS_TRAIN, load_digits_domain, read_idx, read_svhn, read_usps
from munitaug.types import DomainError

USPS_TRAIN_DIGITS = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
MNIST_TEST_DIGITS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def idx_bytes(array: np.ndarray) -> bytes:
    """Writes the IDX format by hand: two zero bytes, type 8, axes, big-endian sides, content."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(5, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        content = idx_bytes(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return images, labels


def write_svhn(folder: Path, split: str = "train") -> tuple[np.ndarray, list[int]]:
    images = np.random.default_rng(1).integers(0, 256, size=(32, 32, 3, 4), dtype=np.uint8)
    digits = [1, 9, 10, 5]
    savemat(folder / f"{split}_32x32.mat", {"X": images, "y": np.array(digits, dtype=np.uint8)[:, None]})
    return images, digits


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["MNIST/raw", "."])
def test_mnist_is_read_packed_or_not(tmp_path: Path, packed: bool, place: str) -> None:
    images, labels = write_mnist(tmp_path / place, packed)
    before = sorted(tmp_path.rglob("*"))
    domain = load_digits_domain("mnist", "test", tmp_path)
    assert np.array_equal(domain.images(range(5))[:, 0].numpy(), images)
    assert domain.require_labels().tolist() == labels.tolist()
    assert domain.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert sorted(tmp_path.rglob("*")) == before


def test_channels_size_and_inversion(tmp_path: Path) -> None:
    images, _ = write_mnist(tmp_path, packed=True)
    domain = load_digits_domain("mnist", "test", tmp_path, channels=3, size=14, invert=True, count=2)
    batch = domain.images(range(len(domain)))
    assert batch.shape == (2, 3, 14, 14)
    assert torch.equal(batch[:, 0], batch[:, 1])
    assert torch.equal(batch[:, 0], batch[:, 2])
    assert batch.float().mean() == pytest.approx(255 - images[:2].mean(), abs=2)


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    images, _ = write_svhn(tmp_path)
    grey = load_digits_domain("svhn", "train", tmp_path, channels=1).images([2])[0, 0].numpy()
    red, green, blue = (images[:, :, channel, 2].astype(float) for channel in range(3))
    assert np.abs(grey - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.5001


@pytest.mark.parametrize("place", [".", "SVHN"])
def test_svhn_layout_and_label_ten(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    images, _ = write_svhn(tmp_path / place, "test")
    domain = load_digits_domain("svhn", "test", tmp_path)
    assert domain.require_labels().tolist() == [1, 9, 0, 5]
    assert domain[2][0].shape == (3, 32, 32)
    for row, column, channel in ((0, 0, 0), (3, 17, 1), (31, 30, 2)):
        assert domain[2][0][channel, row, column] == images[row, column, channel, 2]


def test_usps_gives_the_same_from_both_kinds_of_file(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, size=(3, 256))
    digits = [7, 0, 9]
    (tmp_path / "packed").mkdir()
    (tmp_path / "table").mkdir()
    lines = [
        f"{digit + 1} " + " ".join(f"{place + 1}:{level / 255 * 2 - 1:.6f}" for place, level in enumerate(row))
        for digit, row in zip(digits, levels, strict=True)
    ]
    (tmp_path / "packed" / "usps.t.bz2").write_bytes(bz2.compress("\n".join(lines).encode()))
    with h5py.File(tmp_path / "table" / "usps.h5", "w") as file:
        file["test/data"] = (levels / 255).astype(np.float32)
        file["test/target"] = np.array(digits, dtype=np.int32)
    for folder in ("packed", "table"):
        images, labels = read_usps(tmp_path / folder, "test")
        assert np.array_equal(images.numpy(), levels.reshape(3, 1, 16, 16))
        assert labels.tolist() == digits


def test_digits_are_split_once_and_for_all() -> None:
    train, test = (load_digits_domain("digits", split, Path()) for split in ("train", "test"))
    assert (len(train), len(test)) == (DIGITS_TRAIN, 797)
    assert train[0][0].shape == (1, 8, 8)
    every = torch.cat([train.images(range(1000)), test.images(range(797))])
    assert len({image.numpy().tobytes() for image in every}) == 1797
    assert every.max() == 255
    assert set(every.unique().tolist()) == {round(count * 255 / 16) for count in range(17)}
    assert train.require_labels()[:8].tolist() == [2, 8, 2, 6, 6, 7, 1, 9]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", r"MNIST/raw/train-images-idx3-ubyte.gz"),
        ("usps", r"usps\.h5, usps\.bz2"),
        ("svhn", r"train_32x32\.mat"),
    ],
)
def test_missing_files_are_named_with_their_folder(tmp_path: Path, name: str, files: str) -> None:
    with pytest.raises(DomainError, match=files) as refusal:
        load_digits_domain(name, "train", tmp_path)  # type: ignore[arg-type]
    message = str(refusal.value)
    assert f"{name}:train" in message
    assert str(tmp_path) in message
    assert "--data-root" in message
    assert "downloads nothing" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"<html>no such page</html>", "not an IDX file"),
        (idx_bytes(np.zeros((2, 3), dtype=np.uint8))[:-1], r"should hold \(2, 3\) bytes, but holds 5"),
        (bytes((0, 0, 13, 1)) + struct.pack(">I", 1) + b"\0\0\0\0", "not an IDX file"),
    ],
)
def test_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(DomainError, match=message):
        read_idx(tmp_path / "broken")


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"0" * 1000)[:-9])
    with pytest.raises(DomainError, match=r"broken\.gz cannot be unpacked"):
        read_idx(tmp_path / "broken.gz")


def test_mnist_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(4, dtype=np.uint8)))
    with pytest.raises(DomainError, match="expected N x 28 x 28 images and N labels"):
        load_digits_domain("mnist", "test", tmp_path)


def test_damaged_svhn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(b"not a mat file at all")
    with pytest.raises(DomainError, match="cannot be read as SVHN's X and y"):
        read_svhn(tmp_path, "train")
    savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((28, 28, 3, 2), dtype=np.uint8), "y": np.ones((2, 1))})
    with pytest.raises(DomainError, match=r"should hold X as uint8 32 x 32 x 3 x 2, got uint8 \(28, 28, 3, 2\)"):
        read_svhn(tmp_path, "train")


def test_damaged_usps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"1 1:0.5 2:oh\n"))
    with pytest.raises(DomainError, match="not USPS in libsvm's format"):
        read_usps(tmp_path, "train")
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        file["train/data"] = np.zeros((1, 256))
    with pytest.raises(DomainError, match="should hold train/data and train/target"):
        read_usps(tmp_path, "train")


@pytest.mark.parametrize(
    ("options", "message"), [({"channels": 4}, r"channels must be 1 \(grey\) or 3 \(RGB\)"), ({"size": 0}, "positive")]
)
def test_impossible_channels_and_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        load_digits_domain("digits", "train", Path(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "package"), [("digits", "sklearn.datasets"), ("svhn", "scipy.io")])
def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    write_svhn(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "munitaug\[benchmarks\]"'):
        load_digits_domain(name, "train", tmp_path)  # type: ignore[arg-type]


def test_real_usps(data_root: Path) -> None:
    if not (data_root / "usps.h5").is_file():
        pytest.skip("usps.h5 is not there")
    train, test = (load_digits_domain("usps", split, data_root) for split in ("train", "test"))
    assert (len(train), len(test)) == (7291, 2007)
    assert torch.bincount(train.require_labels()).tolist() == USPS_TRAIN_DIGITS


def test_real_usps_files_hold_the_same_digits_but_h5_is_sharper(data_root: Path, tmp_path: Path) -> None:
    packed = data_root / "usps.t.bz2"
    if not (packed.is_file() and (data_root / "usps.h5").is_file()):
        pytest.skip("usps.h5 and usps.t.bz2 are not both there")
    (tmp_path / packed.name).write_bytes(packed.read_bytes())
    table, lines = read_usps(data_root, "test"), read_usps(tmp_path, "test")
    assert torch.equal(table.labels, lines.labels)
    pixels = torch.stack([table.images.flatten().double(), lines.images.flatten().double()])
    assert 0.94 < torch.corrcoef(pixels)[0, 1] < 0.98
    assert pixels[0].std() > 1.1 * pixels[1].std()


def test_real_mnist(data_root: Path) -> None:
    if not (data_root / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST/raw is not there")
    test = load_digits_domain("mnist", "test", data_root)
    assert torch.bincount(test.require_labels()).tolist() == MNIST_TEST_DIGITS
    assert len(load_digits_domain("mnist", "train", data_root)) == 60000
    assert test.images(range(10000)).float().mean() == pytest.approx(33.79, abs=0.01)


def test_archives_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_MOST_BYTES", 10_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((20, 30, 30), np.uint8))))
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"1 1:0 " * 9000))
    (tmp_path / "h").mkdir()
    with h5py.File(tmp_path / "h" / "usps.h5", "w") as file:
        file.create_dataset("train/data", (10**9, 256), "f8", chunks=(1, 256), compression="gzip")
        file["train/target"] = np.zeros(3)
    savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)})
    for read in (
        lambda: read_idx(tmp_path / "x.gz"),
        lambda: read_usps(tmp_path, "train"),
        lambda: read_usps(tmp_path / "h", "train"),
        lambda: read_svhn(tmp_path, "train"),
    ):
        with pytest.raises(DomainError, match="would unpack to more than 10000 bytes"):
            read()


def test_an_archive_within_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = idx_bytes(np.ones((2, 3, 3), np.uint8))
    monkeypatch.setattr(digits, "_MOST_BYTES", len(content))
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    assert read_idx(tmp_path / "x.gz").sum() == 18


def test_sides_that_overflow_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes((0, 0, 8, 4)) + struct.pack(">4I", *[2**16] * 4))
    with pytest.raises(DomainError, match="should hold"):
        read_idx(tmp_path / "x")
