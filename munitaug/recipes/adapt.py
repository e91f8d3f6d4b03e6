"""The whole way to a classifier of the target in one call: translator, styled training, self-training.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from munitaug._version import __version__
from munitaug.adaptation import (
    FitSettings,
    Row,
    Scorer,
    Task,
    build_classifier,
    make_task,
    save_rows,
)
from munitaug.adaptation import adapt as adapt_classifier
from munitaug.checkpoint import frozen_restyler, frozen_translator, load_method
from munitaug.data.domain import ImageDomain, check_classes
from munitaug.default_device import on_cpu_by_default
from munitaug.files import continued_lines
from munitaug.methods import METHODS
from munitaug.networks.modes import with_gradients
from munitaug.recipes.classifier import CLASSIFIER_FILE, load_classifier, save_classifier
from munitaug.recipes.options import DataOptions, Json, domain_facts, refuse_among_images, run_folder
from munitaug.recipes.train import MAY_CHANGE, SemanticOptions, train
from munitaug.settings import check_kinds
from munitaug.stopping import left_unanswered
from munitaug.training import TrainConfig, resolve_device
from munitaug.types import Interrupted

LOG_EVERY = 50
FINAL = "final"
"""What the log calls the classifier that is refined after the choice."""


@dataclass(frozen=True)
class Adapted:
    """What :func:`adapt` left behind.

    Args:
        classifier: its file; :func:`load_classifier` reads it.
        translator: checkpoint of the translator.
        log: one JSON line per fifty updates.
        accuracy: on the labelled test images in percent, or None without any.
    """

    classifier: Path
    translator: Path
    log: Path
    accuracy: float | None


@with_gradients
@on_cpu_by_default
def adapt(
    source: str | Path | ImageDomain,
    target: str | Path | ImageDomain,
    out: str | Path,
    *,
    test: str | Path | ImageDomain | None = None,
    method: str = "munit",
    preset: str = "small",
    training: TrainConfig = TrainConfig(max_steps=1000),
    semantic_weight: float = 1.0,
    fit: FitSettings = FitSettings(),
    data: DataOptions = DataOptions(),
    resume: bool = False,
    progress: bool = True,
) -> Adapted:
    """Trains a classifier for images of the target, with labels of the source alone.

    A translator is trained with semantic consistency. Some classifiers are trained on the source images and then on the
    target's images without labels; the surest is refined with target images that the translator shows in other
    styles of the target, and with translations of the source whose label the classifier gives too. A method that cannot
    restyle (all but munit, dritpp and multidomain) helps earlier: classifiers also learn from fresh translations of the
    source, whatever they see in them. The run folder gets config.json, translator/,
    log.jsonl, classifiers/ (before the choice), classifier.safetensors and, with test images, results.json.

    Args:
        source: labelled images: a spec or a domain.
        target: images of the kind that is wanted; labels are not read.
        out: the run folder.
        test: labelled target images for the final score alone; None gives no score.
        method: a name of METHODS.
        preset: a named configuration of the method.
        training: of the translator; its seed and device hold for all.
        semantic_weight: of the label term in the translator's training; 0 leaves it out.
        fit: of the classifier.
        data: how specs are opened.
        resume: continue the run in ``out``, which must have been started with the same settings.
        progress: show progress bars.

    Returns:
        Where everything is, and the accuracy.

    Raises:
        ValueError: unknown method, preset or classifier, unsuitable images or settings.
        LabelMissingError: the source or the test images have no labels.
        FileExistsError: ``out`` exists and is not to be resumed.
        CheckpointError: there is nothing to resume, or it was started with other settings.
        BlockingIOError: another process is at work in ``out``.
        Interrupted: Ctrl-C or SIGTERM; continue with ``resume``.
    """
    check_kinds(training=(training, TrainConfig), fit=(fit, FitSettings), data=(data, DataOptions))
    folder = Path(out).expanduser()
    domain_a = data.open_source(source)
    domain_b = data.open_target(target)
    domain_test = None if test is None else data.open_target(test)
    refuse_among_images(folder, domain_a, domain_b, domain_test)
    task = make_task(domain_a, domain_b).shuffled()
    semantic = SemanticOptions(semantic_weight, fit)
    scorer = None
    if domain_test is not None:
        check_classes(domain_a, domain_test)
        scorer = Scorer(domain_test)
    _check_settings(method, preset, task, fit)
    facts = _facts(domain_a, domain_b, method, preset, training, semantic.weight, fit)
    with run_folder(folder, facts, resume):
        translator = folder / "translator"
        train(
            domain_a,
            domain_b,
            translator,
            method=method,
            preset=preset,
            training=training,
            semantic=semantic,
            data=data,
            resume=(translator / "config.json").exists(),
            progress=progress,
        )
        if left_unanswered():
            raise _stopped(folder, "before the classifier was trained")
        with _interruptible(folder):
            classifier = _adapted(task.to(resolve_device(training.device)), folder, training.seed, fit, progress)
        _save(folder / CLASSIFIER_FILE, classifier, fit, task, domain_a.class_names)
    accuracy = None
    if scorer is not None:
        accuracy = round(scorer.accuracy_percent(classifier), 3)
        save_rows(folder / "results.json", [Row(condition="adapt", seed=training.seed, accuracy=accuracy)])
    return Adapted(folder / CLASSIFIER_FILE, translator / "checkpoint", folder / "log.jsonl", accuracy)


def _check_settings(method: str, preset: str, task: Task, fit: FitSettings) -> None:
    """Refuses, before there is a run folder, what would fail after the translator is trained.

    Raises:
        ValueError: unknown method, preset or classifier.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    METHODS[method].config_class.preset(preset, channels=task.channels)
    if len(task.target_images) < 2:
        raise ValueError("the target must hold two images or more: batch norms cannot learn from one")
    build_classifier(fit.classifier, task.channels, task.classes, 0)


def _facts(
    source: ImageDomain,
    target: ImageDomain,
    method: str,
    preset: str,
    training: TrainConfig,
    semantic_weight: float,
    fit: FitSettings,
) -> dict[str, Json]:
    return {
        "munitaug": __version__,
        "source": domain_facts(source),
        "target": domain_facts(target, labels=False),
        "method": method,
        "preset": preset,
        "training": {name: value for name, value in asdict(training).items() if name not in MAY_CHANGE},
        "semantic_weight": semantic_weight,
        "fit": asdict(fit),
    }


def _adapted(task: Task, folder: Path, seed: int, fit: FitSettings, progress: bool) -> nn.Module:
    """Gives the adapted classifier; those before the choice are kept for a resumed run."""
    device = task.device
    method = load_method(folder / "translator").to(device)

    kept = folder / "classifiers"

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        file = kept / f"{name}.safetensors"
        if file.exists():
            return load_classifier(file).to(device)
        with log.of(name):
            classifier = make()
        kept.mkdir(exist_ok=True)
        _save(file, classifier, fit, task)
        return classifier

    with _Log(folder / "log.jsonl", {file.stem for file in kept.glob("*.safetensors")}) as log:
        return adapt_classifier(
            task,
            fit,
            restyler=frozen_restyler(method),
            translator=frozen_translator(method, "a2b"),
            seed=seed,
            once=once,
            progress=progress,
            on_update=log,
        )


def _save(path: Path, model: nn.Module, fit: FitSettings, task: Task, class_names: Sequence[str] = ()) -> None:
    save_classifier(path, model, fit.classifier, task.channels, task.classes, class_names)


class _Log:
    """Writes {"classifier", "stage", "step", "loss"} now and then, one JSON line each.

    Args:
        path: its file. Lines of a run before stay if they are of classifiers that are kept; others are trained again.
        kept: their names.
    """

    def __init__(self, path: Path, kept: Collection[str]) -> None:
        self._file = continued_lines(path, lambda row: row["classifier"] in kept)
        self._classifier = FINAL

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Gives the lines in a block the name of the classifier that is trained there."""
        self._classifier = name
        yield
        self._classifier = FINAL

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, stage: str, step: int, loss: Tensor, classifier: nn.Module) -> None:
        del classifier
        if step % LOG_EVERY == 0:
            facts = {"classifier": self._classifier, "stage": stage, "step": step, "loss": round(float(loss), 5)}
            self._file.write(json.dumps(facts) + "\n")
            self._file.flush()


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Turns Ctrl-C into a word on how to go on.

    Raises:
        Interrupted: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped(folder, "while the classifier was trained") from None


def _stopped(folder: Path, when: str) -> Interrupted:
    return Interrupted(
        f"stopped {when}; the translator is in {folder / 'translator'}: run the same command with --resume to continue"
    )
