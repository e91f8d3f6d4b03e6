"""Options that several recipes share: how domains are opened, and what a run folder says about itself.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from munitaug.checkpoint import find_checkpoint, read_index, was_inverted
from munitaug.data.domain import ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.data.specs import open_domain
from munitaug.files import only_writer, refuse_no_way, write_text
from munitaug.settings import differences
from munitaug.types import CheckpointError, split_direction

Json = Any  # the value of a JSON document
CONFIG_NAME = "config.json"
MOST_SIDE = 4096
"""Side in px that a checkpoint may ask images to be brought to."""


@dataclass(frozen=True)
class DataOptions:
    """How image folders and named domains are opened.

    Args:
        channels: 1 (grey) or 3 (RGB) for both domains; None keeps what the images have, or suits the checkpoint.
        size: side of the square images in px: the centre square, resized. None keeps what the images have, or takes
            the size that the checkpoint was trained with, if one was asked for then.
        invert_source: exchange dark and light in the source; None does as in the checkpoint's training, if there is a
            checkpoint and its training read those images from a folder or a named domain.
        invert_target: the same of the target.
        data_root: folder of the digit data sets; None takes $MUNITAUG_DATA, then ./data.
        skip_unreadable: leave out files that cannot be read, with a warning, instead of stopping.
    """

    channels: int | None = None
    size: int | None = None
    invert_source: bool | None = None
    invert_target: bool | None = None
    data_root: str | None = None
    skip_unreadable: bool = False

    def open(self, spec: str | Path, *, invert: bool = False) -> ImageDomain:
        """Gives the domain of a spec: a folder, or a name such as ``usps:train``.

        Raises:
            DomainError: unknown name, missing files, or images that do not suit.
            TypeError: it is neither a text nor a path.
        """
        return open_domain(
            spec,
            channels=self.channels,
            size=self.size,
            invert=invert,
            data_root=self.data_root,
            skip_unreadable=self.skip_unreadable,
        )

    def open_source(self, domain: str | Path | ImageDomain) -> ImageDomain:
        """Gives the source domain of a spec; a domain as it is. Raises as :meth:`open` does."""
        return domain if isinstance(domain, ImageDomain) else self.open(domain, invert=bool(self.invert_source))

    def open_target(self, domain: str | Path | ImageDomain) -> ImageDomain:
        """Gives the target domain of a spec; a domain as it is. Raises as :meth:`open` does."""
        return domain if isinstance(domain, ImageDomain) else self.open(domain, invert=bool(self.invert_target))

    def like(self, checkpoint: str | Path, direction: str = "a2b") -> DataOptions:
        """Gives these options, with channels, size and polarity of a checkpoint's training where they are left open.

        Args:
            checkpoint: or a run folder.
            direction: whose first domain the source is of, and whose second the target.

        Raises:
            CheckpointError: there is no checkpoint.
        """
        index = read_index(find_checkpoint(checkpoint))
        kept = index.get("provenance", {})  # others may have written something else there
        trained = {
            "channels": index["config"].get("channels"),
            "size": kept.get("size") if type(kept.get("size")) is int and 0 < kept["size"] <= MOST_SIDE else None,
        }
        for option, key in zip(("invert_source", "invert_target"), split_direction(direction), strict=True):
            trained[option] = was_inverted(index, key)
        return replace(self, **{name: value for name, value in trained.items() if getattr(self, name) is None})


def domain_facts(domain: ImageDomain, *, labels: bool = True) -> dict[str, Json]:
    """Gives what tells a domain apart: name, images, (C, H, W) of the first one, and the fingerprint's beginning.

    And "inverted", if dark and light were exchanged.

    Args:
        domain: with one image at least.
        labels: they matter, too.
    """
    inverted = {"inverted": True} if domain.inverted else {}
    return inverted | {
        "name": domain.name,
        "images": len(domain),
        "shape": list(domain.checked_image(0).shape),
        "fingerprint": domain.fingerprint(labels=labels)[:16],
    }


def refuse_among_images(out: Path, *domains: ImageDomain | None) -> None:
    """Checks that what gets pictures of its own does not lie in a folder of images, where they would be taken for more.

    Args:
        out: of a run folder or a picture.
        domains: whose images are in use; those that are no folders do not matter.

    Raises:
        ValueError: it lies in one of the folders.
    """
    place = out.absolute().resolve()
    for domain in domains:
        if not isinstance(domain, FolderDomain):
            continue
        root = domain.root.resolve()
        if root in place.parents and not any(part.startswith(".") for part in place.relative_to(root).parts):
            raise ValueError(
                f"{out} lies in {domain.root}, whose images are in use: its pictures would be taken for more of them; "
                "choose another output"
            )


@contextmanager
def run_folder(folder: Path, facts: Mapping[str, Json], resume: bool) -> Iterator[None]:
    """Keeps other processes out of a run folder that is made, or taken up again; see :func:`start_run`.

    Raises:
        BlockingIOError: another process is at work in it.
        FileExistsError: there is a run already and it is not to be resumed.
        CheckpointError: there is nothing to resume, or it was started with other settings.
    """
    if not resume:
        refuse_existing_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder) if folder.is_dir() else nullcontext():
        start_run(folder, facts, resume)  # looks again, as another process may have been at work till now
        yield


def start_run(folder: Path, facts: Mapping[str, Json], resume: bool) -> None:
    """Makes a run folder with its config.json, or checks that a resumed run is the same run.

    Raises:
        FileExistsError: there is a run already and it is not to be resumed.
        CheckpointError: there is nothing to resume, or it was started with other settings.
    """
    path = folder / CONFIG_NAME
    if not resume:
        refuse_existing_run(folder)
    wanted = json.loads(json.dumps(facts))
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no run to resume ({CONFIG_NAME} is missing); start without --resume")
    refuse_other_settings(path, wanted)


def refuse_other_settings(path: Path, facts: Mapping[str, Json]) -> None:
    """Checks that a JSON file of settings, which decided what is there already, says the same as ``facts``.

    Raises:
        CheckpointError: it is damaged, or a setting differs.
    """
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); the run is damaged, choose another --out") from error
    changed = differences(present, json.loads(json.dumps(facts)))
    if changed:
        raise CheckpointError(
            f"{path.parent} was started with other settings: {'; '.join(changed)}. Resume with the same ones, "
            "or choose another --out"
        )


def refuse_existing_run(folder: Path) -> None:
    """Leaves whatever is in a folder alone; what a run leaves that was killed before its first word is nothing.

    Raises:
        FileExistsError: the folder is a file, or there is something in it.
        FileNotFoundError: a link on the way leads nowhere.
        NotADirectoryError: a file is in the way.
    """
    refuse_no_way(folder)
    unborn = CONFIG_NAME + ".tmp"
    if folder.is_file() or (folder.is_dir() and any(entry.name != unborn for entry in folder.iterdir())):
        raise FileExistsError(f"{folder} exists already; continue it with --resume, or choose another --out")
