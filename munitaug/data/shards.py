"""Several files of augmented images as one: the index file, which knows its shards and refuses other or damaged ones.

The index lies beside its shards. Labels and checksums stand in it; ``/images`` and ``/style`` are virtual data sets
(HDF5 1.10), so every reader of HDF5 sees one file. HDF5 itself reads a missing shard as zeros; here it is an error.
An index has one more attribute, ``shards``: a JSON list of [file name, rows, bytes, content_sha256].

Floor 2: imports its own room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from munitaug.data.augmented_file import (
    CHECKSUMS,
    COLUMNS,
    OLDEST_HDF5,
    SEALED_COLUMNS,
    Array,
    AttributeValue,
    AugmentedFileError,
    Contents,
    content_sha256,
    open_for_reading,
    read_contents,
    write_attributes,
)

_LEADING_ELSEWHERE = "/\\:\0"


class Shard(NamedTuple):
    """One file of several.

    Args:
        name: of the file, in the folder of the index.
        rows: in it.
        bytes: of the whole file.
        content_sha256: as it stands in the file.
    """

    name: str
    rows: int
    bytes: int
    content_sha256: str


def shard_path(output: Path, shard: int, shards: int) -> Path:
    """Gives the path of one shard: ``aug-00007-of-00064.h5`` beside ``aug.h5``."""
    return output.with_name(f"{output.stem}-{shard:05d}-of-{shards:05d}{output.suffix}")


def check_shard_name(output: Path) -> None:
    """Checks that an index can name the shards of an output.

    Raises:
        ValueError: the output's name is not UTF-8, as HDF5 wants it, or has a sign that leads elsewhere on
            some systems.
    """
    try:
        output.name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{output.name!a} is not UTF-8, as names in an index of shards must be; rename it") from error
    if any(mark in output.name for mark in _LEADING_ELSEWHERE):
        raise ValueError(
            f'{output.name!r} has ":" or a backslash in it, and an index that names such shards is not read on every '
            "system; choose another name"
        )


def read_shards(contents: Contents, path: Path) -> tuple[Shard, ...]:
    """Gives the shards that an index names; none for a file that is no index.

    Raises:
        AugmentedFileError: the list is not one, names files elsewhere, or does not add up to the rows.
    """
    text = contents.attributes.get("shards")
    if text is None:
        return ()
    try:
        shards = tuple(
            Shard(str(name), int(rows), int(size), str(sha)) for name, rows, size, sha in json.loads(str(text))
        )
    except (ValueError, TypeError) as error:
        raise AugmentedFileError(f"{path} is damaged: its list of shards cannot be read ({error})") from error
    if not shards:
        raise AugmentedFileError(f"{path} is damaged: it is an index of nothing")
    for shard in shards:
        if shard.name in ("", ".", "..") or any(mark in shard.name for mark in _LEADING_ELSEWHERE):
            raise AugmentedFileError(f"{path} names the shard {shard.name!r}; shards lie beside their index only")
    if sum(shard.rows for shard in shards) != len(contents.labels) or any(shard.rows < 1 for shard in shards):
        raise AugmentedFileError(f"{path} is damaged: its shards do not add up to its {len(contents.labels)} rows")
    return shards


def open_shards(shards: Sequence[Shard], index: Path) -> tuple[int, int, int]:
    """Checks that each file is the one the index was written for; gives H, W, C. Pixels are checked when read.

    Args:
        shards: what the index says, at least one.
        index: its path.

    Raises:
        AugmentedFileError: one is missing, of another size, or another file.
    """
    shapes = {_checked_shape(shard, index.with_name(shard.name)): shard.name for shard in shards}
    if len(shapes) != 1:
        raise AugmentedFileError(f"{index} is damaged: its shards hold images of different shapes ({shapes})")
    return next(iter(shapes))


def _checked_shape(shard: Shard, path: Path) -> tuple[int, int, int]:
    if not path.is_file():
        raise AugmentedFileError(f"the shard {path} is not there; copy it beside its index, or generate it again")
    if path.stat().st_size != shard.bytes:
        raise AugmentedFileError(
            f"the shard {path} has {path.stat().st_size} bytes, but its index says {shard.bytes}: it is truncated or "
            "another file; copy or generate it again"
        )
    with open_for_reading(path) as file:
        contents = read_contents(file, path)
    if contents.attributes.get("content_sha256") != shard.content_sha256:
        raise AugmentedFileError(
            f"the shard {path} does not have the SHA-256 that its index states: it is of another run; copy the right "
            "one, or generate it again"
        )
    return contents.image_shape


def write_index(
    path: Path, paths: Sequence[Path], names: Sequence[str], attributes: Mapping[str, AttributeValue]
) -> None:
    """Writes the index of finished shards.

    Args:
        path: of the index, which is made anew.
        paths: where the shards lie now, in order.
        names: what they will be called, beside the index.
        attributes: of the root.

    Raises:
        AugmentedFileError: a shard is damaged.
    """
    shards, parts = [], []
    for name, place in zip(names, paths, strict=True):
        with open_for_reading(place) as file:
            part = read_contents(file, place)
        parts.append(part)
        sha = str(part.attributes["content_sha256"])
        shards.append(Shard(name, len(part.labels), place.stat().st_size, sha))
    header = {**attributes, "shards": json.dumps(shards)}
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in SEALED_COLUMNS}
    rows, shape, style_dim = len(columns["labels"]), parts[0].image_shape, parts[0].style_dim
    with h5py.File(path, "w", libver=OLDEST_HDF5) as file:
        _write_virtual(file, "images", np.dtype("u1"), (rows, *shape), shards)
        for name in COLUMNS[1:4]:
            _write_column(file, name, columns[name])
        if style_dim:
            _write_virtual(file, "style", np.dtype("<f4"), (rows, style_dim), shards)
        else:
            _write_column(file, "style", np.zeros((rows, 0), np.float32))
        for name in CHECKSUMS:
            _write_column(file, name, columns[name])
        digest = content_sha256(header, [columns[name] for name in SEALED_COLUMNS])
        write_attributes(file, {**header, "content_sha256": digest})


def _write_column(file: h5py.File, name: str, column: Array) -> None:
    file.create_dataset(name, data=column, dtype=column.dtype.newbyteorder("<"), track_times=False)


def _write_virtual(
    file: h5py.File, name: str, kind: np.dtype[np.generic], shape: tuple[int, ...], shards: Sequence[Shard]
) -> None:
    """Makes a virtual column as ``create_virtual_dataset`` does, but without the time of day in it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    row = 0
    for shard in shards:
        size = (shard.rows, *shape[1:])
        place = h5py.h5s.create_simple(shape)
        place.select_hyperslab((row, *(0 for _ in shape[1:])), size)
        file_name = shard.name.replace("%", "%%").encode()  # HDF5 reads it as a pattern
        properties.set_virtual(place, file_name, name.encode(), h5py.h5s.create_simple(size))
        row += shard.rows
    kind_id = h5py.h5t.py_create(kind, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind_id, h5py.h5s.create_simple(shape), properties)
