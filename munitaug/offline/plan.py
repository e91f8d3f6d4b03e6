"""The plan of a generation: everything that decides the bytes of its file, so that a stopped run can go on.

Floor 4: imports data, kernel, random, styles, translator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from munitaug.data.domain import ImageDomain
from munitaug.data.hdf5 import AttributeValue, Compression, Layout, header_attributes
from munitaug.kernel import translator_device
from munitaug.random import torch_generator
from munitaug.styles import StyleSource
from munitaug.translator import NO_STYLES, Translator

MAX_VARIANTS = 32767
PART_BYTES = 16 * 2**20
"""Size of a part before compression: what a kill costs at most, and what is held in memory."""

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
    """

    items: int
    variants: int
    keep_original: bool
    seed: int
    batch_size: int
    layout: Layout
    header: dict[str, AttributeValue]

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
        """Gives the number of parts."""
        return -(-self.items // self.items_per_part)

    def part_items(self, part: int) -> range:
        """Gives the source images of one part."""
        start = part * self.items_per_part
        return range(start, min(start + self.items_per_part, self.items))

    def entries(self) -> Entries:
        """Gives the plan as one flat table of JSON values, for ``plan.json`` and for comparing."""
        sizes = {"items": self.items, "keep_original": self.keep_original, "batch_size": self.batch_size}
        return {**self.header, **sizes, **asdict(self.layout), "items_per_part": self.items_per_part}


def differences(kept: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Gives one line for each entry that differs, in alphabetical order."""
    names = sorted({*kept, *wanted})
    return [
        f"{name}: {kept.get(name)!r} there, {wanted.get(name)!r} now"
        for name in names
        if kept.get(name) != wanted.get(name)
    ]


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
) -> Plan:
    """Gives the plan of a run.

    Raises:
        ValueError: see :func:`munitaug.offline.generate.generate`.
    """
    _check_counts(translator, domain, variants, batch_size)
    channels, height, width = domain[0][0].shape
    config = {
        **provenance,
        "source_domain": domain.name,
        "source_images": len(domain),
        "keep_original": keep_original,
        "device": translator_device(translator).type,
        "weights_sha256": weights_sha256(translator),
        "styles_sha256": styles_sha256(styles, translator.style_dim),
        "source_sha256": source_sha256(domain),
    }
    header = header_attributes(
        config=config,
        checkpoint_sha256=checkpoint_sha256,
        seed=seed,
        variants=variants,
        class_names=domain.class_names,
    )
    layout = Layout(height, width, channels, translator.style_dim, compression)
    return Plan(len(domain), variants, keep_original, seed, batch_size, layout, header)


def weights_sha256(translator: Translator) -> str:
    """Gives the SHA-256 of the class name and all weights: tells translators apart that have no checkpoint file."""
    digest = hashlib.sha256(type(translator).__qualname__.encode())
    for name, weight in sorted(translator.state_dict().items()):
        if isinstance(weight, Tensor):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(_bytes(weight))
    return digest.hexdigest()


def styles_sha256(styles: StyleSource, style_dim: int) -> str:
    """Gives the SHA-256 of a few draws: tells style sources apart.

    Raises:
        ValueError: the source's codes are not as long as the translator's.
    """
    codes = styles.sample(1, 8, torch_generator("styles_sha256"))
    if codes.shape != (1, 8, style_dim):
        raise ValueError(
            f"the translator takes style codes of {style_dim} numbers, but this style source gives "
            f"{codes.shape[-1]}; make the source with style_dim={style_dim}"
        )
    return hashlib.sha256(_bytes(codes)).hexdigest()


def source_sha256(domain: ImageDomain) -> str:
    """Gives the SHA-256 of the first image, the last image and all labels: tells most changes of a data set."""
    digest = hashlib.sha256()
    for index in (0, len(domain) - 1):
        image = domain[index][0]
        digest.update(f"{tuple(image.shape)}".encode())
        digest.update(_bytes(image))
    if domain.labels is not None:
        digest.update(_bytes(domain.labels))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _check_counts(translator: Translator, domain: ImageDomain, variants: int, batch_size: int) -> None:
    if not 1 <= variants <= MAX_VARIANTS:
        raise ValueError(f"variants must be 1 to {MAX_VARIANTS}, got {variants}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(domain) == 0:
        raise ValueError(f"{domain.name} holds no image; there is nothing to generate from")
    if translator.style_dim == 0 and variants > 1:
        raise ValueError(f"{variants} variants were asked for, but {NO_STYLES}; or use variants=1")
