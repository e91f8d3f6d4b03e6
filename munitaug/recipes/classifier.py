"""Train one classifier on one labelled domain, with classic augmentation; keep classifiers in files and read them.

Floor 6: imports floors 1-5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from munitaug._version import __version__
from munitaug.adaptation import ClassicAugmentation, FitSettings, build_classifier, fit, make_task, source_batches
from munitaug.data.domain import ImageDomain, check_class_names
from munitaug.default_device import on_cpu_by_default
from munitaug.files import sha256_of
from munitaug.images import uint8_to_model
from munitaug.networks.modes import with_gradients
from munitaug.random import on_device, seed_of
from munitaug.recipes.options import Json
from munitaug.settings import check_kinds
from munitaug.tensor_files import load_tensors, save_tensors
from munitaug.training import resolve_device
from munitaug.types import CheckpointError

CLASSIFIER_FILE = "classifier.safetensors"
FACTS_KEY = "munitaug-classifier"


@on_cpu_by_default
@with_gradients
def train_classifier(
    domain: ImageDomain,
    *,
    settings: FitSettings = FitSettings(),
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> nn.Module:
    """Gives a classifier of a labelled domain, on the CPU and in evaluation mode.

    Args:
        domain: labelled images of one size.
        settings: network, steps, learning rate.
        seed: decides initial weights and batches.
        device: to train on: "auto", "cpu", "cuda", ...
        progress: show a progress bar.

    Returns:
        N x C x H x W in [-1, 1] -> N x classes logits.

    Raises:
        LabelMissingError: the domain has no labels.
        TypeError: it is no domain.
        ValueError: unknown classifier.
    """
    if not isinstance(domain, ImageDomain):
        raise TypeError(
            f"domain must be an ImageDomain, got {domain!r}; munitaug.open_domain(...) opens a folder or name"
        )
    check_kinds(settings=(settings, FitSettings))
    task, where = make_task(domain, domain), resolve_device(device)
    own_seed = seed_of(seed, "classifier of a domain")
    classifier = build_classifier(settings.classifier, task.channels, task.classes, own_seed).to(where)
    drawn = source_batches(task, settings, own_seed, ClassicAugmentation())

    def batches(step: int) -> tuple[Tensor, Tensor]:
        images, labels = drawn(step)  # where the domain lies: a GPU may be too small for all of it
        return on_device(images, where), on_device(labels, where)

    return fit(classifier, batches, settings, f"classifier of {domain.name}" if progress else "").cpu()


def save_classifier(
    path: Path, classifier: nn.Module, name: str, channels: int, classes: int, class_names: Sequence[str] = ()
) -> None:
    """Writes a classifier that :func:`load_classifier` reads, atomically.

    Args:
        path: of the file.
        classifier: made by ``build_classifier(name, channels, classes, ...)``.
        name: "lenet" or a timm model name.
        channels: image channels.
        classes: outputs.
        class_names: names of the classes in label order, against which later images are checked.
    """
    facts = {
        "classifier": name,
        "channels": channels,
        "classes": classes,
        "class_names": list(class_names),
        "munitaug": __version__,
    }
    save_tensors(path, classifier.state_dict(), {FACTS_KEY: json.dumps(facts)})


def load_classifier(path: str | Path) -> nn.Module:
    """Gives a classifier that :func:`munitaug.adapt` or :func:`munitaug.train` wrote, on the CPU in evaluation mode.

    Args:
        path: the file, or the run folder it lies in.

    Returns:
        N x C x H x W in [-1, 1] -> N x classes logits.

    Raises:
        CheckpointError: there is no such file, or it holds no classifier.
    """
    return _read(path)[0]


@torch.no_grad()
def check_classifier(path: str | Path, domain: ImageDomain) -> None:
    """Checks that the classifier in a file takes a domain's images and knows its classes.

    Args:
        path: as of :func:`load_classifier`.
        domain: labelled; its first image is tried.

    Raises:
        CheckpointError: there is no such file, or it holds no classifier.
        DomainError: both name their classes, and otherwise.
        ValueError: the images do not suit, or there are more or fewer classes.
    """
    classifier, class_names = _read(path)
    image = uint8_to_model(domain.images([0]))
    try:
        found = classifier(image).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not take images of {domain.name}, {image.shape[1]} channels of {image.shape[3]} x "
            f"{image.shape[2]} px; give the classifier of the same images"
        ) from error
    if found != domain.class_count:
        raise ValueError(f"{path} knows {found} classes, but {domain.name} has {domain.class_count}")
    check_class_names(domain, str(path), class_names)


def classifier_sha256(path: str | Path) -> str:
    """Gives the SHA-256 of the file that :func:`load_classifier` reads."""
    return sha256_of(_file(path))


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    file = path / CLASSIFIER_FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file} is missing; expected the classifier that munitaug adapt or train writes")
    return file


def _read(path: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
    """Gives the classifier in a file, and the names of its classes, if it has any."""
    file = _file(path)
    try:
        tensors, words = load_tensors(file, (FACTS_KEY,))
        facts: Json = json.loads(words[FACTS_KEY])
        model = build_classifier(facts["classifier"], facts["channels"], facts["classes"], 0)
        model.load_state_dict(tensors)
        class_names = tuple(map(str, facts.get("class_names", ())))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} holds no classifier of munitaug adapt or train ({error})") from error
    return model.eval(), class_names
