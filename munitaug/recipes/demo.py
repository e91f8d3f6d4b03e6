"""The whole product in one call: printed digits learn to look handwritten, and a classifier gains by it.

Source: rendered digits with labels. Target: scikit-learn's bundled handwritten digits, 1000 of them without
labels to learn from and 797 with labels to score on. Nothing is downloaded.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from munitaug.adaptation import FitSettings, Row, summarise
from munitaug.data.specs import open_domain
from munitaug.default_device import on_cpu_by_default
from munitaug.recipes.evaluate import draw_accuracies, evaluate
from munitaug.recipes.generate import generate
from munitaug.recipes.options import refuse_existing_run
from munitaug.recipes.preview import preview
from munitaug.recipes.train import SemanticOptions, train
from munitaug.settings import check_settings
from munitaug.stopping import left_unanswered
from munitaug.training import TrainConfig
from munitaug.types import Interrupted

SIZE_PX = 16


@dataclass(frozen=True)
class DemoSettings:
    """How long the demo works; the defaults take about 13 minutes on two cores.

    Args:
        steps: of MUNIT training.
        seeds: of classifier training.
        source_count: rendered digits.
        variants: styled images per source image in augmented.h5.
        generate_count: source images in augmented.h5.
        fit: how classifiers are trained.
        semantic_weight: of label-preserving training; 0 leaves it out.

    Raises:
        ValueError: a number outside its range.
    """

    steps: int = 1000
    seeds: int = 3
    source_count: int = 6000
    variants: int = 4
    generate_count: int = 2000
    fit: FitSettings = FitSettings()
    semantic_weight: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self)


@on_cpu_by_default
def demo(
    out: str | Path,
    *,
    settings: DemoSettings = DemoSettings(),
    training: TrainConfig | None = None,
    resume: bool = False,
    progress: bool = True,
) -> list[Row]:
    """Trains MUNIT on digits, draws it, writes an augmented file, measures what it brings; gives the rows.

    The folder gets config.json, log.jsonl, samples/, state/, checkpoint/, preview.png, augmented.h5,
    results.json and accuracy.png.

    Args:
        out: run folder; must not exist unless ``resume``.
        settings: how long the demo works.
        training: of MUNIT; None is the settings' steps with the defaults of TrainConfig.
        resume: continue a demo that was stopped, with the same settings.
        progress: show progress bars.

    Returns:
        Rows {"condition", "seed", "accuracy" in percent}.

    Raises:
        FileExistsError: ``out`` exists and is not to be resumed.
        ImportError: scikit-learn or matplotlib is missing.
        Interrupted: Ctrl-C or SIGTERM; continue with ``resume``.
    """
    folder = Path(out).expanduser()
    if not resume:
        refuse_existing_run(folder)
    source = open_domain(f"synthetic-digits:train:{settings.source_count}", channels=1, size=SIZE_PX)
    shown = open_domain(f"synthetic-digits:train:{settings.generate_count}", channels=1, size=SIZE_PX)
    target = open_domain("digits:train", size=SIZE_PX)
    test = open_domain("digits:test", size=SIZE_PX)
    checkpoint = folder / "checkpoint"
    if not (resume and (checkpoint / "checkpoint.json").exists()):
        train(
            source,
            target,
            folder,
            training=training or TrainConfig(max_steps=settings.steps),
            semantic=SemanticOptions(settings.semantic_weight, settings.fit),
            resume=resume and (folder / "config.json").exists(),
            progress=progress,
        )
        _stop_if_asked(folder)
    preview(checkpoint, shown, folder / "preview.png", target=target, variants=6, columns=20, overwrite=True)
    generate(
        checkpoint,
        shown,
        folder / "augmented.h5",
        variants=settings.variants,
        overwrite=resume,
        progress=progress,
    )
    _stop_if_asked(folder)
    rows = evaluate(
        source,
        target,
        folder / "results.json",
        checkpoint=checkpoint,
        test=test,
        seeds=settings.seeds,
        fit=settings.fit,
        resume=resume,
        progress=progress,
    )
    title = f"Printed to handwritten digits: {len(source)} labelled source, {len(target)} unlabelled target images"
    draw_accuracies(summarise(rows), title, folder / "accuracy.png")
    return rows


def _stop_if_asked(folder: Path) -> None:
    """Ends the demo where a part of it was at its last step when a stop was asked for.

    Raises:
        Interrupted: it was.
    """
    if left_unanswered():
        raise Interrupted(f"stopped; what is made is in {folder}: run the same command with --resume to continue")
