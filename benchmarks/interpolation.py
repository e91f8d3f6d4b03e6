"""TransGaGa's claim that geometry and appearance are interpolated apart (Wu et al. 2019, section 4.3), on known ones.

    python -m benchmarks.interpolation --steps 1500 --seeds 3

Source: rendered digits, upright. Target: rendered digits slanted by half their height. The ink of every image of
either domain has a random level, so shape and appearance are known to be independent. After training two paths are
walked between the translations of pairs of test images: along *geometry* (landmarks between those of two images, one
appearance code) and along *appearance* (the landmarks of one image, codes between those of a faint and of a strong
target image). MUNIT walks the same paths with content maps and style codes. Reported, each as a share of the same
difference between two independent translations, in percent:

- shape: difference of the images' shapes (each image divided by its ink level) between the ends of a path;
- ink: difference of their ink levels;

so a method that keeps the two apart has shape near 100 and ink near 0 on the way through geometry, and the reverse on
the way through appearance. Two more:

- moved: how far the middle of the geometry path is from the average of its ends, as a share of the ends' distance, in
  percent: 0 is a cross-fade, strokes that move give more;
- slanted: share of the slant between the domains that translations take on, in percent.

One JSON line per finished cell is appended to --out; a sheet of both paths goes beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image
from tqdm import tqdm

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.claims import Row
from benchmarks.methods import SIZE_PX, render_columns
from benchmarks.storing import append_row, read_rows
from munitaug.random import torch_generator

METHODS = ("transgaga", "munit")
SLANT = 0.5
"""Shear of the target, px per px of height."""
FAINTEST = 0.35
"""Lowest ink level, as a share of full ink."""
SCORED_PAIRS = 500
ROWS = 6
"""Of the sheet."""
ENLARGED = 3
"""Pixels of the sheet per pixel of an image."""
COLUMNS = (
    ("geometry_shape", "geometry path: shape %", ".0f"),
    ("geometry_ink", "ink %", ".0f"),
    ("appearance_shape", "appearance path: shape %", ".0f"),
    ("appearance_ink", "ink %", ".0f"),
    ("moved", "moved %", ".0f"),
    ("slanted", "slanted %", ".0f"),
)


class InkedDigits(munitaug.ImageDomain):
    """Digits, slanted by a given shear, each with an ink level of its own in [FAINTEST, 1].

    Args:
        domain: light digits on black.
        shear: px per px of height, to the right above the middle.
        seed: of the ink levels.
    """

    def __init__(self, domain: munitaug.ImageDomain, shear: float, seed: int = 0) -> None:
        super().__init__(f"{domain.name}, shear {shear}", domain.channels, domain.class_names)
        images = slant(domain.images(range(len(domain))).float() / 255.0, shear)
        draw = torch.rand(len(images), generator=torch_generator(seed, "ink"))
        levels = FAINTEST + (1.0 - FAINTEST) * draw
        self._images = (255.0 * images * levels[:, None, None, None]).round().to(torch.uint8)
        self._labels = domain.require_labels()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], int(self._labels[index])

    @property
    def labels(self) -> Tensor:
        return self._labels


def slant(images: Tensor, shear: float) -> Tensor:
    """Gives images N x C x H x W >= 0 sheared about their middle row; what is above it moves to the right."""
    matrix = torch.tensor([[1.0, shear, 0.0], [0.0, 1.0, 0.0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def ink_levels(images: Tensor) -> Tensor:
    """Gives N ink levels in [0, 1] of images N x C x H x W in [-1, 1]: the mean of the lightest tenth of the pixels."""
    flat = ((images + 1.0) / 2.0).flatten(1)
    return flat.topk(max(1, flat.shape[1] // 10), dim=1).values.mean(dim=1)


def shapes(images: Tensor) -> Tensor:
    """Gives N x C x H x W in [0, 1]: images in [-1, 1] divided by their ink levels."""
    return ((images + 1.0) / 2.0 / ink_levels(images).clamp(min=0.05)[:, None, None, None]).clamp(0.0, 1.0)


def slants(images: Tensor) -> Tensor:
    """Gives N slants in px per px of images N x C x H x W in [-1, 1], from their second moments; right above is > 0."""
    weight = shapes(images).sum(dim=1)
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in weight.shape[1:]), indexing="ij")
    total = weight.sum(dim=(1, 2)).clamp(min=1e-6)
    down, across = ((weight * place).sum(dim=(1, 2)) / total for place in (rows, columns))
    from_row, from_column = rows - down[:, None, None], columns - across[:, None, None]
    both, tall = ((weight * each).sum(dim=(1, 2)) for each in (from_row * from_column, from_row.square()))
    return -both / tall.clamp(min=1e-6)


class Paths(Protocol):
    """What this script needs of a translator: content between two images, and images of content and style."""

    def between(self, first: Tensor, second: Tensor, share: float) -> Tensor: ...

    def images(self, content: Tensor, codes: Tensor) -> Tensor: ...


class LandmarkPaths:
    """TransGaGa: between two images lie their landmarks' straight ways."""

    def __init__(self, translator: munitaug.Translator) -> None:
        self._translator = cast(Any, translator)

    def between(self, first: Tensor, second: Tensor, share: float) -> Tensor:
        landmarks = torch.lerp(self._translator.landmarks(first), self._translator.landmarks(second), share)
        return cast(Tensor, self._translator.content_of(landmarks, *first.shape[2:]))

    def images(self, content: Tensor, codes: Tensor) -> Tensor:
        return cast(Tensor, self._translator.decode(content, codes))


class ContentPaths:
    """Any other translator: between two images lie their content maps' straight ways."""

    def __init__(self, translator: munitaug.Translator) -> None:
        self._translator = translator

    def between(self, first: Tensor, second: Tensor, share: float) -> Tensor:
        contents = [self._translator.encode_content(each) for each in (first, second)]
        return torch.lerp(cast(Tensor, contents[0]), cast(Tensor, contents[1]), share)

    def images(self, content: Tensor, codes: Tensor) -> Tensor:
        return self._translator.decode(content, codes)


def main() -> None:
    """Runs the cells that are missing, prints the table and draws the sheet of seed 0."""
    options = _options()
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = read_rows(out)
    known = {(row["method"], row["seed"], row["steps"]) for row in finished}
    data = munitaug.DataOptions(channels=1, size=SIZE_PX)
    plain = [data.open(f"synthetic-digits:{split}") for split in ("train", "test")]
    source, source_test = (InkedDigits(domain, 0.0) for domain in plain)
    target, target_test = (InkedDigits(domain, SLANT, seed=1) for domain in plain)
    wanted = [(name, seed) for seed in range(options.seeds) for name in METHODS]
    for name, seed in tqdm(
        [(n, s) for n, s in wanted if (n, s, options.steps) not in known], desc="cells", unit="cell"
    ):
        translator = munitaug.shared_translator(_train(name, seed, source, target, options))
        row: Row = {"method": name, "seed": seed, "steps": options.steps, "scored_pairs": SCORED_PAIRS}
        row |= measured(paths_of(name, translator), translator, source_test, target_test)
        row |= circumstances("benchmarks.interpolation")
        append_row(out, row)
        finished.append(row)
    for name in METHODS:
        translator = munitaug.shared_translator(_train(name, 0, source, target, options))
        tiles = sheet(paths_of(name, translator), translator, source_test, target_test)
        larger = F.interpolate(tiles, scale_factor=ENLARGED, mode="nearest")
        save_image(larger, out.with_name(f"{out.stem}-{name}.png"), nrow=len(tiles) // ROWS, padding=4)
    print(render_columns([row for row in finished if row["steps"] == options.steps], list(METHODS), COLUMNS))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of both methods")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1")
    parser.add_argument("--runs", type=Path, default=Path("runs/interpolation"), help="folder of the translators")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/interpolation.jsonl"))
    return parser.parse_args()


def _train(
    name: str, seed: int, source: munitaug.ImageDomain, target: munitaug.ImageDomain, options: argparse.Namespace
) -> Path:
    folder: Path = options.runs / f"{name}-{options.steps}-seed{seed}"
    if not (folder / "checkpoint" / "checkpoint.json").exists():
        munitaug.train(
            source,
            target,
            folder,
            method=name,
            training=munitaug.TrainConfig(max_steps=options.steps, seed=seed, device="cpu", sample_every_steps=0),
            resume=(folder / "config.json").exists(),
            progress=False,
        )
    return folder


def paths_of(name: str, translator: munitaug.Translator) -> Paths:
    """Gives the paths of a method by name."""
    return LandmarkPaths(translator) if name == "transgaga" else ContentPaths(translator)


@torch.no_grad()
def measured(
    paths: Paths, translator: munitaug.Translator, source: munitaug.ImageDomain, target: munitaug.ImageDomain
) -> Row:
    """Gives the columns of the table, in percent, over pairs of source test images that follow one another."""
    images = _images(source, 2 * SCORED_PAIRS)
    first, second = images[0::2], images[1::2]
    faint, strong = _codes(translator, target)
    here, there, middle = (paths.between(first, second, share) for share in (0.0, 1.0, 0.5))
    start = paths.images(here, faint)
    along_geometry, along_appearance = paths.images(there, faint), paths.images(here, strong)
    apart = paths.images(there, strong)
    whole_shape = _difference(shapes(start), shapes(apart))
    whole_ink = _difference(ink_levels(start), ink_levels(apart))
    halfway, average = paths.images(middle, faint), (start + along_geometry) / 2.0
    gained = slants(torch.cat([start, along_appearance])).mean() - slants(first).mean()
    wanted = slants(_images(target, 2 * SCORED_PAIRS)).mean() - slants(images).mean()
    shares = {
        "geometry_shape": _difference(shapes(start), shapes(along_geometry)) / whole_shape,
        "geometry_ink": _difference(ink_levels(start), ink_levels(along_geometry)) / whole_ink,
        "appearance_shape": _difference(shapes(start), shapes(along_appearance)) / whole_shape,
        "appearance_ink": _difference(ink_levels(start), ink_levels(along_appearance)) / whole_ink,
        "moved": _difference(halfway, average) / _difference(start, along_geometry),
        "slanted": float(gained / wanted),
    }
    return {name: round(100.0 * share, 2) for name, share in shares.items()} | {"ink_range": round(whole_ink, 4)}


@torch.no_grad()
def sheet(
    paths: Paths, translator: munitaug.Translator, source: munitaug.ImageDomain, target: munitaug.ImageDomain
) -> Tensor:
    """Gives images in [0, 1]: six rows: two source images, seven steps through geometry, four of appearance."""
    images, rows = _images(source, 2 * ROWS), []
    faint, strong = _codes(translator, target)
    for first, second, low, high in zip(images[0::2], images[1::2], faint, strong, strict=False):
        steps = torch.linspace(0.0, 1.0, 7).tolist()
        a, b, low, high = first[None], second[None], low[None], high[None]
        moved = [paths.images(paths.between(a, b, share), high) for share in steps]
        inked = [paths.images(paths.between(a, b, 0.0), torch.lerp(low, high, share)) for share in steps[::2]]
        rows.append(torch.cat([a, *moved, b, *inked]))
    return ((torch.cat(rows) + 1.0) / 2.0).clamp(0.0, 1.0)


def _images(domain: munitaug.ImageDomain, count: int) -> Tensor:
    return domain.images(range(count)).float() / 127.5 - 1.0


def _codes(translator: munitaug.Translator, target: munitaug.ImageDomain) -> tuple[Tensor, Tensor]:
    """Gives the codes of faint and of strong target images, SCORED_PAIRS of each."""
    images = _images(target, len(target))
    order = ink_levels(images).argsort()
    return translator.encode_style(images[order[:SCORED_PAIRS]]), translator.encode_style(images[order[-SCORED_PAIRS:]])


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().mean())


if __name__ == "__main__":
    main()
