"""Three classes that anybody can tell apart, tiny training runs on them, and the command line in this process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from munitaug import cli
from munitaug.adaptation import FitSettings, Task, predict
from munitaug.data.domain import ArrayDomain
from munitaug.images import uint8_to_model
from munitaug.recipes import SemanticOptions, train
from munitaug.training import TrainConfig
from munitaug.training.trainer import OnStep
from tests.tiny import TINY

SIDE = 16
CLASSES = 3
TINY_GREY = replace(TINY, channels=1)
TINY_MODEL = json.dumps({name: value for name, value in asdict(TINY_GREY).items() if name != "channels"})
TINY_FIT = FitSettings(steps=3, self_steps=2, starts=2, start_steps=2, refine_steps=2, batch_size=8)
TINY_TRAINING = TrainConfig(
    max_steps=4, batch_size=4, device="cpu", log_every_steps=1, save_every_steps=2, sample_every_steps=2
)


def toy_images(count: int, seed: int, contrast: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives uint8 count x 1 x 16 x 16 images with a bright square in the corner of their class, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 40, (count, 1, SIDE, SIDE), generator=generator).float()
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = ((2, 2), (2, 9), (9, 2))[label]
        image[:, top : top + 5, left : left + 5] += 200.0
    return (128.0 + contrast * (images - 128.0)).clamp(0, 255).to(torch.uint8), labels


def toy_accuracy(classifier: torch.nn.Module, contrast: float = 1.0) -> float:
    """Gives the share of 90 other toy images that a classifier gets right."""
    images, labels = toy_images(90, 7, contrast)
    return float((predict(classifier, uint8_to_model(images)) == labels).float().mean())


def toy_domain(
    name: str = "toy", count: int = 12, seed: int = 0, contrast: float = 1.0, labelled: bool = True
) -> ArrayDomain:
    """Gives :func:`toy_images` as a domain."""
    images, labels = toy_images(count, seed, contrast)
    return ArrayDomain(name, images, labels if labelled else None)


def toy_task(count: int = 30, contrast: float = 0.5) -> Task:
    """Gives a labelled toy source and an unlabelled toy target of less contrast."""
    images, labels = toy_images(count, 0)
    target, _ = toy_images(count, 1, contrast)
    return Task(uint8_to_model(images), labels, uint8_to_model(target), CLASSES)


def train_tiny(
    folder: Path,
    training: TrainConfig = TINY_TRAINING,
    *,
    images: int = 12,
    resume: bool = False,
    on_step: OnStep | None = None,
) -> Path:
    """Trains a tiny MUNIT with the semantic term; gives the checkpoint."""
    return train(
        toy_domain("source", images),
        toy_domain("target", seed=1, labelled=False),
        folder,
        config=TINY_GREY,
        training=training,
        semantic=SemanticOptions(1.0, TINY_FIT),
        resume=resume,
        progress=False,
        on_step=on_step,
    )


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run_cli(*words: str | Path) -> Outcome:
    """Runs the command line in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
    return Outcome(code, out.getvalue(), err.getvalue())


def refusal(*words: str | Path) -> str:
    """Gives the message of a command that must be refused: exit code 2, one line on stderr, no traceback."""
    outcome = run_cli(*words)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("munitaug: error: "), outcome.err
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.out == ""
    return outcome.err.removeprefix("munitaug: error: ").rstrip("\n")
