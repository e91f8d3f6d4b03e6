"""The plan of a generation: everything that decides the bytes of its file, so that a stopped run can go on.

Floor 4: imports data, images, kernel, random, settings, styles, translator, types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from munitaug.data.augmented_file import AttributeValue, Layout, header_attributes
from munitaug.data.domain import ImageDomain
from munitaug.data.folder import FolderDomain
from munitaug.data.packing import Compression
from munitaug.images import images_to_model, match_channels
from munitaug.kernel import translator_device
from munitaug.random import torch_generator
from munitaug.settings import whole_number
from munitaug.styles import ClassStyles, StyleSource
from munitaug.translator import NO_STYLES, Translator
from munitaug.types import MIN_SIDE, DomainError

MAX_VARIANTS = 32767
MAX_SHARDS = 99999
PART_BYTES = 16 * 2**20
"""Size of a part before compression: what a kill costs at most."""

Entries = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """What a run makes, and in which pieces.

    Args:
        items: source images.
        variants: styled images per source image.
        keep_original: whether the source image comes first among its rows.
        seed: of the style draws.
        batch_size: source images translated at once; batches begin at multiples of it.
        layout: of the rows.
        header: root attributes of the file.
        shards: files that the output consists of; 0 for one file, joined from parts.
    """

    items: int
    variants: int
    keep_original: bool
    seed: int
    batch_size: int
    layout: Layout
    header: dict[str, AttributeValue]
    shards: int = 0

    @property
    def rows_per_item(self) -> int:
        """Gives the rows that one source image becomes."""
        return self.variants + int(self.keep_original)

    @property
    def rows(self) -> int:
        """Gives the rows of the whole file."""
        return self.items * self.rows_per_item

    @property
    def items_per_part(self) -> int:
        """Gives the source images of a part: whole batches, about PART_BYTES of images, at least one batch."""
        batch_bytes = self.batch_size * self.rows_per_item * self.layout.image_bytes
        return self.batch_size * max(1, PART_BYTES // batch_bytes)

    @property
    def parts(self) -> int:
        """Gives the number of parts; a shard is a part."""
        return self.shards or -(-self.items // self.items_per_part)

    def part_items(self, part: int) -> range:
        """Gives the source images of one part; of shards, as even as can be."""
        if self.shards:
            return range(self.items * part // self.shards, self.items * (part + 1) // self.shards)
        start = part * self.items_per_part
        return range(start, min(start + self.items_per_part, self.items))

    def part_batches(self, part: int) -> list[range]:
        """Gives the source images of a part in batches; the first begins where the part does."""
        items = self.part_items(part)
        return [items[start : start + self.batch_size] for start in range(0, len(items), self.batch_size)]

    @property
    def sha256(self) -> str:
        """Gives the SHA-256 of all entries."""
        return hashlib.sha256(json.dumps(self.entries(), sort_keys=True).encode()).hexdigest()

    def entries(self) -> Entries:
        """Gives the plan as one flat table of JSON values, for ``plan.json`` and for comparing."""
        sizes = {
            "items": self.items,
            "keep_original": self.keep_original,
            "batch_size": self.batch_size,
            "shards": self.shards,
        }
        return {**self.header, **sizes, **asdict(self.layout), "items_per_part": self.items_per_part}


@dataclass(frozen=True)
class Stripe:
    """Which of several processes this is, each of which makes its own shards.

    Args:
        rank: 0 to ranks - 1.
        ranks: processes that share the work.

    Raises:
        ValueError: there is no such rank.
    """

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank must be 0 to {self.ranks - 1} of {self.ranks} ranks, got {self.rank}")

    def has(self, part: int) -> bool:
        """Tells whether the shard is this rank's."""
        return part % self.ranks == self.rank


def make_plan(
    translator: Translator,
    domain: ImageDomain,
    styles: StyleSource,
    *,
    variants: int,
    seed: int,
    keep_original: bool,
    batch_size: int,
    compression: Compression,
    provenance: Mapping[str, object],
    checkpoint_sha256: str,
    shards: int = 0,
) -> Plan:
    """Gives the plan of a run.

    Raises:
        ValueError: see :func:`munitaug.offline.generate.generate`.
        TypeError: a number is not whole.
    """
    variants, batch_size = whole_number("variants", variants), whole_number("batch_size", batch_size)
    seed, shards = whole_number("seed", seed), whole_number("shards", shards)
    check_counts(translator, domain, variants, batch_size)
    if not 0 <= shards <= min(len(domain), MAX_SHARDS):
        raise ValueError(
            f"shards must be 0 (one file) to {min(len(domain), MAX_SHARDS)} (of {len(domain)} images), got {shards}"
        )
    channels, height, width = _checked_shape(translator, domain)
    config = {
        **provenance,
        "source_domain": domain.name,
        "source_images": len(domain),
        "keep_original": keep_original,
        "device": translator_device(translator).type,
        "precision": translator.precision,
        "compiled": translator.compiled,
        "weights_sha256": weights_sha256(translator),
        "styles_sha256": styles_sha256(styles, translator.style_dim, domain.labels),
        "source_sha256": domain.fingerprint(),
    }
    header = header_attributes(
        config=config,
        checkpoint_sha256=checkpoint_sha256,
        seed=seed,
        variants=variants,
        class_names=domain.class_names,
    )
    layout = Layout(height, width, channels, translator.style_dim, compression)
    return Plan(len(domain), variants, keep_original, seed, batch_size, layout, header, shards)


def check_counts(translator: Translator, domain: ImageDomain | None, variants: int, batch_size: int) -> None:
    """Checks what does not need an image to be read.

    Raises:
        ValueError: a number is out of range, the domain is empty, or several variants of a one-to-one method.
        DomainError: labels that are not one whole number for each image.
    """
    if not 1 <= variants <= MAX_VARIANTS:
        raise ValueError(f"variants must be 1 to {MAX_VARIANTS}, got {variants}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if domain is not None and len(domain) == 0:
        raise ValueError(f"{domain.name} holds no image; there is nothing to generate from")
    if domain is not None:
        domain.checked_labels()
    if translator.style_dim == 0 and variants > 1:
        raise ValueError(f"{variants} variants were asked for, but {NO_STYLES}; or use variants=1")


def _checked_shape(translator: Translator, domain: ImageDomain) -> tuple[int, int, int]:
    """Gives C, H, W of the images.

    Raises:
        DomainError: they are too small, or files of a folder that differ in size.
        ValueError: they have channels that the translator cannot take.
    """
    if isinstance(domain, FolderDomain) and len(domain.sizes) > 1:
        some = ", ".join(f"{width} x {height}" for height, width in domain.sizes[:3])
        raise DomainError(
            f"{domain.name}: images of different sizes cannot go into one file, and there are {len(domain.sizes)} "
            f"({some} px, ...); give a size, for example --size 64"
        )
    image = domain.checked_image(0)
    match_channels(images_to_model(image), translator.channels)
    channels, height, width = image.shape
    if min(height, width) < MIN_SIDE:
        raise DomainError(
            f"{domain.name}: images are {width} x {height} px, but sides of at least {MIN_SIDE} px are needed; "
            "give a size, for example --size 64"
        )
    return channels, height, width


def weights_sha256(translator: Translator) -> str:
    """Gives the SHA-256 of the class name and all weights: tells translators apart that have no checkpoint file."""
    digest = hashlib.sha256(type(translator).__qualname__.encode())
    for name, weight in sorted(translator.state_dict().items()):
        if isinstance(weight, Tensor):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(_bytes(weight))
    return digest.hexdigest()


def styles_sha256(styles: StyleSource, style_dim: int, labels: Tensor | None) -> str:
    """Gives the SHA-256 of a few draws: tells style sources apart, for the images with these labels.

    Raises:
        ValueError: the source's codes are not as long as the translator's, or there are none of a class.
    """
    codes = styles.sample(1, 8, torch_generator("styles_sha256"))
    if codes.shape != (1, 8, style_dim):
        raise ValueError(
            f"the translator takes style codes of {style_dim} numbers, but this style source gives "
            f"{codes.shape[-1]}; make the source with style_dim={style_dim}"
        )
    digest = hashlib.sha256(_bytes(codes))
    if isinstance(styles, ClassStyles) and labels is not None:
        classes = labels.unique()
        digest.update(_bytes(styles.sample_for(classes, 8, torch_generator("styles_sha256", "classes"))))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
