"""What a user may write for a domain: a folder, or NAME, NAME:SPLIT, NAME:SPLIT:COUNT.

Floor 2: imports types and data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast, get_args

from munitaug.data.digits import DigitsName, load_digits_domain
from munitaug.data.domain import ArrayDomain, ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.data.synthetic import Protocol, Split, SyntheticDigits
from munitaug.default_device import on_cpu_by_default
from munitaug.types import DomainError

SyntheticName = Literal["synthetic-digits"]
DomainName = Literal[DigitsName, SyntheticName]

DOMAIN_NAMES: tuple[str, ...] = get_args(DomainName)
DATA_ROOT_VARIABLE = "MUNITAUG_DATA"
DEFAULT_DATA_ROOT = "data"


@dataclass(frozen=True)
class NamedSpec:
    """A parsed ``NAME[:SPLIT[:COUNT]]``.

    Args:
        name: one of :data:`DOMAIN_NAMES`.
        split: ``train`` or ``test``.
        count: take (or render) only the first ``count`` images; ``None`` takes the usual number.
    """

    name: DomainName
    split: Split = "train"
    count: int | None = None


@on_cpu_by_default
def open_domain(
    spec: str | os.PathLike[str],
    *,
    channels: int | None = None,
    size: int | None = None,
    invert: bool = False,
    data_root: str | Path | None = None,
    skip_unreadable: bool = False,
    seed: int = 0,
) -> ImageDomain:
    """Gives the domain that a user named.

    Args:
        spec: a folder of images, or ``mnist``, ``usps``, ``svhn``, ``digits``, ``synthetic-digits``, each with
            ``:train`` (default) or ``:test`` and then ``:COUNT`` for the first COUNT images. Where there is a folder
            of that name too, write ``./mnist`` or ``mnist:train``. A path is always a folder.
        channels: 1 or 3 (folders: 1 to 4); ``None`` keeps what the images have. For synthetic-digits it
            chooses the protocol: 1 (or ``None``) prints single grey digits, 3 strings of digits in colour.
        size: height and width in pixels; ``None`` keeps what the images have.
        invert: exchanges dark and light.
        data_root: folder of the digit files; ``None`` reads the variable MUNITAUG_DATA, else ``./data``.
        skip_unreadable: leave broken files of a folder out with a warning, instead of refusing the folder.
        seed: of the synthetic digits.

    Raises:
        DomainError: the spec names nothing known, or the images cannot be used.
        TypeError: the spec is neither a text nor a path.
        ImportError: an optional package is missing; the message says how to install it.
    """
    if not isinstance(spec, str | os.PathLike):
        raise TypeError(
            f"images are a folder, a name or an ImageDomain, got {type(spec).__name__}; give images in memory as "
            "munitaug.data.ArrayDomain(name, images, labels)"
        )
    named = parse_spec(spec)
    if named is None:
        folder = Path(spec).expanduser()
        return FolderDomain(folder, channels=channels, size=size, invert=invert, skip_unreadable=skip_unreadable)
    if named.name == "synthetic-digits":
        return _open_synthetic(named, channels=channels, size=size, invert=invert, seed=seed)
    root = Path(data_root or os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT).expanduser()
    domain = load_digits_domain(
        named.name, named.split, root, channels=channels, size=size, invert=invert, count=named.count
    )
    domain.inverted = invert
    return domain


def parse_spec(spec: str | os.PathLike[str]) -> NamedSpec | None:
    """Gives the named domain of a spec, or ``None`` if it is an existing folder; a path is nothing else.

    Raises:
        DomainError: the spec is neither, or may be both, or its split or count is wrong.
    """
    text = os.fspath(spec)
    name, *rest = text.split(":")
    if name not in DOMAIN_NAMES or not isinstance(spec, str):
        try:
            if text and Path(text).expanduser().is_dir():
                return None
            raise DomainError(_unknown(text, name))
        except RuntimeError as error:  # ~somebody, who has no home here
            raise DomainError(f"{spec}: {error}") from error
    if not rest and Path(name).is_dir():
        raise DomainError(
            f"{name} is a data set, and a folder here: write ./{name} for the folder, {name}:train for the data set"
        )
    split = rest[0] if rest else "train"
    if split not in get_args(Split) or len(rest) > 2:
        raise DomainError(f"{spec}: expected {name}, {name}:train or {name}:test, with :COUNT after the split")
    if len(rest) == 2 and not (rest[1].isascii() and rest[1].isdigit() and int(rest[1]) > 0):
        raise DomainError(f"{spec}: the count must be a whole number of at least 1, got {rest[1]!r}")
    return NamedSpec(cast(DomainName, name), cast(Split, split), int(rest[1]) if len(rest) == 2 else None)


def _open_synthetic(
    named: NamedSpec, *, channels: int | None, size: int | None, invert: bool, seed: int
) -> ArrayDomain:
    if channels not in (None, 1, 3):
        raise DomainError(f"{named.name} has 1 (grey) or 3 (RGB) channels, got {channels}")
    protocol: Protocol = "numbers" if channels == 3 else "print"
    name = f"{named.name}:{named.split}"
    domain = SyntheticDigits(protocol, named.split, named.count, size=size, invert=invert, seed=seed, name=name)
    rendered = domain.render_all()
    rendered.inverted = invert
    return rendered


def _unknown(spec: str, name: str) -> str:
    known = ", ".join(DOMAIN_NAMES)
    near = get_close_matches(name.lower(), DOMAIN_NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if Path(spec).expanduser().is_file():
        return f"{spec} is a file, but a domain is a folder of images or one of {known}{hint}"
    return f"no domain {spec!r}: no folder of that name exists, and the known names are {known}{hint}"
