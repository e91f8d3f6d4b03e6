"""Claims of the papers that can be checked on small digits, each against the method without the part it is about.

    python -m benchmarks.claims --data-root DATA --steps 600 --seeds 3

Pair: rendered to scanned digits, grey, 16 px, presets "small", no labels. The variants:

- MUNIT (Huang et al. 2018, table 1): the published terms (no cycle); without image reconstruction, which is said to
  cost quality; without style reconstruction, which is said to cost diversity.
- GcGAN (Fu et al. 2019): with geometry consistency (upside down), and with the adversarial terms alone, which are said
  to lose the orientation of digits.
- CycleGAN with noise (Huang et al. 2018, section 5.2): noise beside the input, which is said to bring no diversity.

Measured on translations of source test images, with classifiers of labelled target images that serve nothing else:

- kept: share that is seen as the source's label, in percent;
- KID: kernel distance to real target test images, times 1000;
- diversity: between two styles of one image;
- upright: share that a classifier of upright and flipped target images sees upright, in percent. (Digits that look
  alike upside down, 0, 1 and 8, are left out.)

TransGaGa's claim about interpolation is checked by benchmarks/interpolation.py.

One JSON line per finished cell is appended to --out; cells that stand there are not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

import munitaug
from benchmarks.circumstances import circumstances
from benchmarks.methods import PAIRS, SIZE_PX, render_columns
from benchmarks.storing import append_row, read_rows

PAIR = "synthetic:digits"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "munit, published terms": ("munit", {"weight_cycle": 0.0}),
    "munit without image reconstruction": ("munit", {"weight_cycle": 0.0, "weight_image": 0.0}),
    "munit without style reconstruction": ("munit", {"weight_cycle": 0.0, "weight_style": 0.0}),
    "cyclegan with noise": ("cyclegan", {"noise_dim": 8}),
    "gcgan": ("gcgan", {}),
    "gcgan, adversarial terms alone": ("gcgan", {"weight_geometry": 0.0}),
}
ALIKE_UPSIDE_DOWN = (0, 1, 8)
SCORED_IMAGES = 1500
COLUMNS = (("kept", "kept %", ".1f"), ("kid", "KID x 1000", ".1f"), ("diversity", "diversity", ".3f"))
COLUMNS_SHOWN = (*COLUMNS, ("upright", "upright %", ".1f"))
Row = dict[str, Any]


class UprightOrNot(munitaug.ImageDomain):
    """Every image of a domain twice: as it is (class 0) and upside down (class 1).

    Args:
        domain: labelled; digits that look alike upside down are left out.
    """

    def __init__(self, domain: munitaug.ImageDomain) -> None:
        super().__init__(f"upright or flipped {domain.name}", domain.channels, ("upright", "flipped"))
        self.domain = domain
        self.kept = places_that_tell(domain.require_labels())

    def __len__(self) -> int:
        return 2 * len(self.kept)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place, flipped = divmod(index, 2)
        image, _ = self.domain[self.kept[place]]
        return (image.flip(1) if flipped else image), flipped

    @property
    def labels(self) -> Tensor:
        return torch.arange(len(self)) % 2


def places_that_tell(labels: Tensor) -> list[int]:
    """Gives the places of digits that do not look alike upside down."""
    return [place for place, label in enumerate(labels.tolist()) if label not in ALIKE_UPSIDE_DOWN]


def main() -> None:
    """Runs the cells that are missing and prints the table so far."""
    options = _options()
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = read_rows(out)
    data = munitaug.DataOptions(channels=1, size=SIZE_PX, data_root=options.data_root)
    domains = [data.open(spec) for spec in PAIRS[PAIR]]
    known = {(row["variant"], row["seed"], row["steps"]) for row in finished}
    wanted = [(name, seed) for seed in range(options.seeds) for name in VARIANTS]
    missing = [(name, seed) for name, seed in wanted if (name, seed, options.steps) not in known]
    judges = [munitaug.train_classifier(domain) for domain in (domains[1], UprightOrNot(domains[1]))] if missing else []
    for name, seed in tqdm(missing, desc="cells", unit="cell"):
        checkpoint = _train(name, seed, domains[0], domains[1], options)
        row: Row = {"pair": PAIR, "variant": name, "seed": seed, "steps": options.steps}
        row |= _measured(checkpoint, seed, domains[2], domains[3], judges) | circumstances("benchmarks.claims")
        append_row(out, row)
        finished.append(row)
    shown = [row | {"method": row["variant"]} for row in finished if row["steps"] == options.steps]
    print(render_columns(shown, list(VARIANTS), COLUMNS_SHOWN))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=None, help="folder of the digit data sets")
    parser.add_argument("--steps", type=int, default=600, help="training steps of every variant")
    parser.add_argument("--seeds", type=int, default=3, help="runs seeds 0 .. N-1")
    parser.add_argument("--runs", type=Path, default=Path("runs/claims"), help="folder of the trained translators")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/claims.jsonl"))
    return parser.parse_args()


def _train(
    name: str, seed: int, source: munitaug.ImageDomain, target: munitaug.ImageDomain, options: argparse.Namespace
) -> Path:
    method, changes = VARIANTS[name]
    preset = cast(Any, munitaug.METHODS[method].config_class.preset("small", channels=1))
    folder: Path = options.runs / f"{name.replace(',', '').replace(' ', '-')}-{options.steps}-seed{seed}"
    if not (folder / "checkpoint" / "checkpoint.json").exists():
        munitaug.train(
            source,
            target,
            folder,
            method=method,
            config=replace(preset, **changes),
            training=munitaug.TrainConfig(max_steps=options.steps, seed=seed, device="cpu", sample_every_steps=0),
            resume=(folder / "config.json").exists(),
            progress=False,
        )
    return folder


@torch.no_grad()
def _measured(
    checkpoint: Path,
    seed: int,
    source: munitaug.ImageDomain,
    target: munitaug.ImageDomain,
    judges: list[nn.Module],
) -> Row:
    judge, upright_judge = judges
    features = cast(Callable[[Tensor], Tensor], judge.features)
    translator = munitaug.shared_translator(checkpoint)
    images, real = (
        domain.images(range(min(SCORED_IMAGES, len(domain)))).float() / 127.5 - 1.0 for domain in (source, target)
    )
    labels = source.require_labels()[: len(images)]
    styles = torch.randn(len(images), 2, translator.style_dim, generator=torch.Generator().manual_seed(seed))
    both = torch.cat([translator.translate(x, s) for x, s in zip(images.split(250), styles.split(250), strict=True)])
    name = f"classifier of {PAIRS[PAIR][1]}"
    distance = munitaug.kernel_distance(munitaug.Features.of(features, both[:, 0], real, name=name))
    varied = munitaug.style_diversity(features, both, name=name).value if translator.style_dim else 0.0
    telling = both[places_that_tell(labels), 0]
    return {
        "kept": round(100.0 * float((judge(both[:, 0]).argmax(dim=1) == labels).float().mean()), 2),
        "kid": round(1000.0 * distance.value, 2),
        "diversity": round(varied, 4),
        "upright": round(100.0 * float((upright_judge(telling).argmax(dim=1) == 0).float().mean()), 2),
        "scored_images": len(images),
    }


if __name__ == "__main__":
    main()
