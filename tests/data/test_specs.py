from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import munitaug.data
from munitaug.data.digits import load_digits_domain
from munitaug.data.specs import DOMAIN_NAMES, NamedSpec, open_domain, parse_spec
from munitaug.data.synthetic import SyntheticDigits
from munitaug.types import DomainError

WriteImage = Callable[..., Path]


def test_names_are_the_five_digit_domains() -> None:
    assert DOMAIN_NAMES == ("mnist", "usps", "svhn", "digits", "synthetic-digits")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mnist", NamedSpec("mnist", "train", None)),
        ("usps:test", NamedSpec("usps", "test", None)),
        ("synthetic-digits:train:2000", NamedSpec("synthetic-digits", "train", 2000)),
    ],
)
def test_spec_is_name_split_and_count(spec: str, expected: NamedSpec) -> None:
    assert parse_spec(spec) == expected


def test_folder_is_opened_with_all_options(write_image: WriteImage, tmp_path: Path) -> None:
    write_image("pictures/a.png", size=(40, 20))
    (tmp_path / "pictures" / "b.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"left out 1 of 2 .*b\.png"):
        domain = open_domain(str(tmp_path / "pictures"), channels=1, size=16, invert=True, skip_unreadable=True)
    (tmp_path / "pictures" / "b.png").unlink()
    plain = munitaug.data.FolderDomain(tmp_path / "pictures", channels=1, size=16)
    assert torch.equal(domain[0][0], 255 - plain[0][0])
    assert domain.name == str(tmp_path / "pictures")


def test_what_may_be_a_name_or_a_folder_is_not_guessed(
    write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image("digits/a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DomainError, match=r"write \./digits for the folder, digits:train for the data set"):
        open_domain("digits")
    assert len(open_domain("digits:train")) == 1000
    assert len(open_domain("./digits")) == 1


def test_a_path_is_always_a_folder(write_image: WriteImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image("digits/a.png")
    monkeypatch.chdir(tmp_path)
    domain = open_domain(Path("digits"))
    assert (len(domain), domain.name) == (1, "digits")
    with pytest.raises(DomainError, match="no folder of that name exists"):
        open_domain(Path("mnist"))


@pytest.mark.parametrize("spec", [None, 3, b"digits", ["digits"]])
def test_what_names_no_images_is_refused_by_its_type(spec: object) -> None:
    message = f"a folder, a name or an ImageDomain, got {type(spec).__name__}; give images in memory as .*ArrayDomain"
    with pytest.raises(TypeError, match=message):
        open_domain(spec)  # type: ignore[arg-type]


def test_count_takes_the_first_images() -> None:
    few, all_of_them = open_domain("digits:test:5", size=16), open_domain("digits:test", size=16)
    assert len(few) == 5
    assert torch.equal(few.images(range(5)), all_of_them.images(range(5)))
    assert few.require_labels().tolist() == all_of_them.require_labels()[:5].tolist()


@pytest.mark.parametrize(("channels", "protocol"), [(None, "print"), (1, "print"), (3, "numbers")])
def test_channels_choose_the_synthetic_protocol(channels: int | None, protocol: str) -> None:
    opened = open_domain("synthetic-digits:test:4", channels=channels, size=16, seed=3)
    rendered = SyntheticDigits(protocol, "test", 4, size=16, seed=3)  # type: ignore[arg-type]
    assert torch.equal(opened.images([3])[0], rendered[3][0])
    assert opened.require_labels().tolist() == rendered.labels.tolist()
    assert opened.name == "synthetic-digits:test"


def test_data_root_comes_from_the_argument_then_the_variable_then_the_usual_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUNITAUG_DATA", str(tmp_path / "variable"))
    with pytest.raises(DomainError, match="argument"):
        open_domain("svhn", data_root=tmp_path / "argument")
    with pytest.raises(DomainError, match="variable"):
        open_domain("svhn")
    monkeypatch.delenv("MUNITAUG_DATA")
    with pytest.raises(DomainError, match=r"train_32x32\.mat in data, but none is there"):
        open_domain("svhn")


def test_optdigits_ignore_the_data_root(tmp_path: Path) -> None:
    expected = load_digits_domain("digits", "train", tmp_path)
    assert torch.equal(open_domain("digits", data_root=tmp_path / "nowhere")[7][0], expected[7][0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mnits", r"no domain 'mnits': no folder of that name exists.*mnist, usps.*did you mean mnist\?"),
        ("MNIST:test", r"did you mean mnist\?"),
        ("synthetic_digits", r"did you mean synthetic-digits\?"),
        ("/no/such/folder", r"no domain '/no/such/folder'.*synthetic-digits$"),
        ("", "no domain ''"),
        ("mnist:validation", "expected mnist, mnist:train or mnist:test"),
        ("mnist:", "expected mnist, mnist:train or mnist:test"),
        ("mnist:train:10:3", "expected mnist, mnist:train or mnist:test"),
        ("mnist:train:many", "count must be a whole number of at least 1, got 'many'"),
        ("mnist:train:0", "count must be a whole number of at least 1, got '0'"),
        ("mnist:train:-3", "got '-3'"),
    ],
)
def test_wrong_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        open_domain(spec)


def test_file_is_not_a_domain(write_image: WriteImage) -> None:
    with pytest.raises(DomainError, match="is a file, but a domain is a folder of images or one of mnist"):
        open_domain(str(write_image("a.png")))


def test_synthetic_digits_have_one_or_three_channels() -> None:
    with pytest.raises(DomainError, match=r"synthetic-digits has 1 \(grey\) or 3 \(RGB\) channels, got 4"):
        open_domain("synthetic-digits", channels=4)


def test_public_names_of_the_room() -> None:
    names = {"ImageDomain", "ArrayDomain", "FolderDomain", "SyntheticDigits", "UnpairedLoader", "open_domain"}
    assert all(hasattr(munitaug.data, name) for name in names | {"DOMAIN_NAMES", "load_in_memory"})
