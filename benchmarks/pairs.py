"""The pairs of domains of the digit benchmark: what is source, what is target, at which size and in which channels.

- mnist:usps, usps:mnist: 28 px grey, USPS enlarged from 16 px; the published splits (60000/10000 and 7291/2007). Under
  the protocol "sampled" 2000 training images of MNIST and 1800 of USPS are drawn with the seed, as CoGAN (Liu & Tuzel,
  NeurIPS 2016) and ADDA (Tzeng et al., CVPR 2017) did; the tests stay whole.
- svhn:mnist: 32 px RGB.
- synthetic:digits (P1): 6000 rendered single digits -> scikit-learn's digits, 16 px grey.
- synthetic-rgb:digits, usps, mnist, svhn (P2): 12000 rendered numbers in colour -> real digits, 32 px RGB.
- mnist:mnist-m: 28 px RGB, over photographs from a folder.
- any two folders, given as a FolderPair.

At 32 px real digits are framed instead of blown up, so that all of them are 20 to 22 px high: USPS and scikit-learn's
digits, which fill their images, are shown 22 px high, MNIST's images as they are.

Rendered and published sets are the same for every seed; only "sampled" draws.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

import munitaug
from munitaug import ImageDomain
from munitaug.data import ArrayDomain, MnistM, frame_images
from munitaug.random import random_permutation
from munitaug.types import DomainError

Protocol = Literal["full", "sampled"]
Split = Literal["train", "test"]
SAMPLED_IMAGES = {"mnist": 2000, "usps": 1800}
RENDERED_IMAGES = {("synthetic", "train"): 6000, ("synthetic-rgb", "train"): 12000}
RENDERED_TEST_IMAGES = 2000
FRAMED_PX = {"mnist": 28, "usps": 22, "digits": 22}
"""Height in pixels at which a set is shown inside 32 px."""
FRAME_PX = 32
PHOTOGRAPHED = ("mnist-m",)
"""Sets that are made of photographs of one's own."""
FINGERPRINT_DIGITS = 16
RENDERING_SOURCES = ("synthetic.py", "glyphs.py", "backdrops.py", "fit.py")


class PairMissingError(ValueError):
    """A pair cannot be opened here: files, photographs or a package are missing, or it lacks the protocol."""


@dataclass(frozen=True)
class PairRecipe:
    """What a pair consists of.

    Args:
        source: a set: mnist, usps, svhn, digits, mnist-m, synthetic or synthetic-rgb.
        target: the same.
        size: height and width in pixels.
        channels: 1 or 3.
    """

    source: str
    target: str
    size: int
    channels: int


PAIRS: dict[str, PairRecipe] = {
    "svhn:mnist": PairRecipe("svhn", "mnist", 32, 3),
    "mnist:usps": PairRecipe("mnist", "usps", 28, 1),
    "usps:mnist": PairRecipe("usps", "mnist", 28, 1),
    "synthetic:digits": PairRecipe("synthetic", "digits", 16, 1),
    "synthetic-rgb:digits": PairRecipe("synthetic-rgb", "digits", 32, 3),
    "synthetic-rgb:usps": PairRecipe("synthetic-rgb", "usps", 32, 3),
    "synthetic-rgb:mnist": PairRecipe("synthetic-rgb", "mnist", 32, 3),
    "synthetic-rgb:svhn": PairRecipe("synthetic-rgb", "svhn", 32, 3),
    "mnist:mnist-m": PairRecipe("mnist", "mnist-m", 28, 3),
}


@dataclass(frozen=True)
class FolderPair:
    """Two domains of one's own, each a folder or whatever ``munitaug.open_domain`` takes.

    Args:
        source: labelled training images.
        target: training images; labels serve "oracle" alone, and there may be none.
        test: labelled test images of the target.
        source_test: labelled test images of the source; None leaves out what needs them.
        size: height and width in pixels to which all are brought.
        channels: of all images.
    """

    source: str
    target: str
    test: str
    source_test: str | None = None
    size: int = 32
    channels: int = 3


@dataclass(frozen=True)
class PairData:
    """The opened domains of a pair, all of one size.

    Args:
        source: labelled training images.
        target: training images; their labels, where there are any, are for the oracle alone.
        target_test: labelled test images, for the final score.
        source_test: labelled test images of the source, or None.
        size: height and width in pixels.
        channels: 1 to 4.
    """

    source: ImageDomain
    target: ImageDomain
    target_test: ImageDomain
    source_test: ImageDomain | None
    size: int
    channels: int


@dataclass(frozen=True)
class _Opening:
    """Where sets come from and how they are to look."""

    size: int
    channels: int
    data_root: str | Path | None
    photographs: str | Path | None
    cache: Path | None


def open_pair(
    name: str,
    *,
    data_root: str | Path | None = None,
    protocol: str = "full",
    seed: int = 0,
    photographs: str | Path | None = None,
    cache: str | Path | None = None,
    folders: FolderPair | None = None,
    target_images: int = 0,
) -> PairData:
    """Gives the domains of a pair.

    Args:
        name: one of PAIRS, or any name with ``folders``.
        data_root: folder of the digit files; None takes $MUNITAUG_DATA, then ./data.
        protocol: "full", or "sampled" for mnist:usps and usps:mnist.
        seed: draws the images of "sampled" and those of ``target_images``; the full sets do not depend on it.
        photographs: folder of photographs, for mnist:mnist-m.
        cache: folder where rendered sets are kept; None renders them anew, 1 to 7 ms an image.
        folders: the domains of a pair of one's own.
        target_images: of the target's training images only so many, drawn; of one seed the fewer are among the more.
            0 takes all.

    Raises:
        PairMissingError: something that the pair needs is not here, it has no such protocol, or fewer target images.
        ValueError: unknown pair or protocol, or a negative number of images.
    """
    if target_images < 0:
        raise ValueError(f"target_images must be 0 (all) or positive, got {target_images}")
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be one of {', '.join(get_args(Protocol))}, got {protocol!r}")
    if folders is None and name not in PAIRS:
        raise ValueError(_unknown(name))
    recipe = None if folders else PAIRS[name]
    if protocol == "sampled" and (recipe is None or {recipe.source, recipe.target} != set(SAMPLED_IMAGES)):
        raise PairMissingError(f"{name} has no sampled protocol; only mnist:usps and usps:mnist have")
    try:
        if folders is not None:
            data = _open_folders(folders, data_root)
        else:
            assert recipe is not None
            data = _open_recipe(recipe, data_root, protocol, seed, photographs, cache)
    except (DomainError, ImportError) as error:
        raise PairMissingError(f"{name} cannot be opened: {error}") from error
    if target_images == 0:
        return data
    if target_images > len(data.target):
        raise PairMissingError(f"{name} has {len(data.target)} training images of the target, not {target_images}")
    return replace(data, target=_drawn(data.target, target_images, seed, "target images"))


def own_images(name: str, data: PairData, folders: FolderPair | None = None) -> dict[str, str]:
    """Gives what tells a pair of one's own folders or photographs from others of its name: domain -> fingerprint.

    Empty for pairs of published and rendered sets, which their name tells.

    Args:
        name: of the pair.
        data: its domains.
        folders: they come from; None for a pair of PAIRS.
    """
    recipe = PAIRS.get(name)
    if folders is None and (recipe is None or not {recipe.source, recipe.target} & set(PHOTOGRAPHED)):
        return {}
    domains = {"source": data.source, "target": data.target, "test": data.target_test, "source_test": data.source_test}
    return {
        role: f"{len(domain)} images, {domain.fingerprint(labels=True)[:FINGERPRINT_DIGITS]}"
        for role, domain in domains.items()
        if domain is not None
    }


def _open_folders(folders: FolderPair, data_root: str | Path | None) -> PairData:
    def opened(spec: str) -> ImageDomain:
        return munitaug.open_domain(spec, channels=folders.channels, size=folders.size, data_root=data_root)

    source, target, test = (opened(spec) for spec in (folders.source, folders.target, folders.test))
    held = None if folders.source_test is None else opened(folders.source_test)
    for domain in (source, test, held):
        if domain is not None and domain.labels is None:
            raise DomainError(f"{domain.name} has no labels; make one sub-folder per class")
    for other in (target, test, held):
        if other is not None and other.class_names not in ((), source.class_names):
            raise DomainError(
                f"{other.name} has the classes {', '.join(other.class_names)}, but {source.name} has "
                f"{', '.join(source.class_names)}; name the sub-folders alike"
            )
    return PairData(source, target, test, held, folders.size, folders.channels)


def _open_recipe(
    recipe: PairRecipe,
    data_root: str | Path | None,
    protocol: str,
    seed: int,
    photographs: str | Path | None,
    cache: str | Path | None,
) -> PairData:
    opening = _Opening(recipe.size, recipe.channels, data_root, photographs, None if cache is None else Path(cache))
    source, target = (_open_set(name, "train", opening) for name in (recipe.source, recipe.target))
    if protocol == "sampled":
        source, target = _sampled(recipe.source, source, seed), _sampled(recipe.target, target, seed)
    target_test, source_test = (_open_set(name, "test", opening) for name in (recipe.target, recipe.source))
    return PairData(source, target, target_test, source_test, recipe.size, recipe.channels)


def _open_set(name: str, split: Split, opening: _Opening) -> ImageDomain:
    """Gives one set in memory, at the size and in the channels of its pair."""
    if name in ("synthetic", "synthetic-rgb"):
        return _rendered(name, split, opening)
    if name == "mnist-m":
        return _open_mnist_m(split, opening)
    shown = FRAMED_PX.get(name) if opening.size == FRAME_PX else None
    domain = munitaug.open_domain(
        f"{name}:{split}", channels=opening.channels, size=shown or opening.size, data_root=opening.data_root
    )
    if shown is None:
        return domain
    framed = frame_images(domain.images(range(len(domain))), opening.size)
    return ArrayDomain(domain.name, framed, domain.labels, domain.class_names)


def _open_mnist_m(split: Split, opening: _Opening) -> ImageDomain:
    if opening.photographs is None:
        raise DomainError(
            "mnist-m is MNIST over photographs; name a folder of them with --photographs (published: BSDS500)"
        )
    digits = munitaug.open_domain(f"mnist:{split}", data_root=opening.data_root)
    return MnistM(digits, opening.photographs, split, size=opening.size).render_all()


def _sampled(name: str, domain: ImageDomain, seed: int) -> ImageDomain:
    """Gives the images that the sampled protocol draws, with their labels."""
    return _drawn(domain, min(SAMPLED_IMAGES[name], len(domain)), seed, "sampled", name)


def _drawn(domain: ImageDomain, count: int, seed: int, *purpose: str) -> ImageDomain:
    chosen = random_permutation(len(domain), seed, *purpose)[:count]
    labels = None if domain.labels is None else domain.labels[chosen]
    return ArrayDomain(f"{domain.name}, {count} drawn", domain.images(chosen), labels, domain.class_names)


def _rendered(name: str, split: Split, opening: _Opening) -> ImageDomain:
    count = RENDERED_IMAGES.get((name, split), RENDERED_TEST_IMAGES)
    spec = f"synthetic-digits:{split}:{count}"

    def render() -> ImageDomain:
        return munitaug.open_domain(spec, channels=opening.channels, size=opening.size)

    facts = {"spec": spec, "channels": opening.channels, "size": opening.size, "renderer": _renderer()}
    return render() if opening.cache is None else kept(opening.cache, facts, render)


def kept(folder: Path, facts: dict[str, object], render: Callable[[], ImageDomain]) -> ImageDomain:
    """Gives the rendered domain: from its file in the folder if that was made of the same facts, else rendered.

    Args:
        folder: made if missing.
        facts: everything that decides the images; they stand in the file and are compared.
        render: gives the labelled domain anew.
    """
    told = json.dumps(facts, sort_keys=True)
    path = folder / f"rendered-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz"
    found = _read(path, told)
    if found is not None:
        return found
    domain = render()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{path.stem}-{os.getpid()}.npz"  # of its own: several processes may render at once
    images, labels = domain.images(range(len(domain))), domain.require_labels()
    np.savez(
        temporary,
        facts=np.array(told),
        name=np.array(domain.name),
        class_names=np.array(domain.class_names),
        images=images.numpy(),
        labels=labels.numpy(),
    )
    temporary.replace(path)
    return domain


def _read(path: Path, told: str) -> ImageDomain | None:
    """Gives the domain of a file; None where there is no file, it is damaged, or it was made of other facts."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["facts"]) != told:
                return None
            images, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"])
            return ArrayDomain(str(file["name"]), images, labels, tuple(str(each) for each in file["class_names"]))
    except Exception:  # zip and numpy raise a dozen unrelated types for a damaged file; it is made anew
        return None


def _renderer() -> str:
    """Gives what stands for the code and the fonts that draw: another of them draws other images."""
    folder = Path(munitaug.__file__).parent / "data"
    digest = hashlib.sha256()
    for name in RENDERING_SOURCES:
        digest.update((folder / name).read_bytes())
    try:
        fonts = version("matplotlib")
    except PackageNotFoundError:
        fonts = "none"
    return f"{digest.hexdigest()[:16]}, matplotlib {fonts}"


def _unknown(name: str) -> str:
    near = get_close_matches(name, PAIRS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return (
        f"no pair {name!r}{hint}; known are {', '.join(PAIRS)}; for folders of your own give --source, --target and "
        "--test"
    )
