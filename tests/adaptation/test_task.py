"""What an adaptation is given, and who may see the target's labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import Scorer, Task, make_oracle_task, make_task, predict
from munitaug.adaptation.task import SCORE_BATCH
from munitaug.data.domain import ArrayDomain
from munitaug.types import DomainError, LabelMissingError
from tests.runs import toy_domain


class Brightness(nn.Module):
    """Puts an image into the class of its first pixel, rounded; says if it is asked in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        level = ((x[:, 0, 0, 0] + 1.0) * 127.5).round().long()
        return nn.functional.one_hot(level, 256).float()


def levels(count: int, labels: Tensor) -> ArrayDomain:
    """Image i is filled with i modulo 200."""
    values = (torch.arange(count) % 200).to(torch.uint8).view(-1, 1, 1, 1)
    return ArrayDomain("levels", values.expand(-1, 1, 16, 16).contiguous(), labels)


def test_predictions_keep_the_order_over_several_batches() -> None:
    count = 2 * SCORE_BATCH + 3
    images = ((torch.arange(count) % 200).float() / 127.5 - 1.0).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    assert torch.equal(predict(Brightness(), images), torch.arange(count) % 200)


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_made_in_evaluation_mode_and_the_mode_is_put_back(training: bool) -> None:
    classifier = Brightness().train(training)
    predict(classifier, torch.zeros(2, 1, 16, 16))
    assert classifier.modes == [False]
    assert classifier.training is training


def test_a_part_that_is_frozen_stays_so() -> None:
    classifier = nn.Sequential(Brightness(), nn.BatchNorm1d(256))
    classifier[1].eval()
    predict(classifier, torch.zeros(2, 1, 16, 16))
    assert [classifier.training, classifier[1].training] == [True, False]


def test_accuracy_is_the_share_of_right_answers_in_percent() -> None:
    labels = torch.arange(8)
    labels[5:] = 0  # three of eight are wrong
    scorer = Scorer(levels(8, labels))
    assert len(scorer) == 8
    assert scorer.accuracy_percent(Brightness()) == pytest.approx(62.5)


def test_a_shuffled_task_has_every_class_among_its_first_images() -> None:
    images = (torch.arange(300) // 100).float().view(-1, 1, 1, 1) - 1.0  # class by class
    task = Task(images, torch.zeros(300, dtype=torch.int64), images, 3)
    shuffled = task.shuffled()
    assert shuffled.target_images[:30].unique().tolist() == [-1.0, 0.0, 1.0]
    assert torch.equal(shuffled.target_images.flatten().sort().values, images.flatten())
    assert torch.equal(shuffled.target_images, task.shuffled().target_images)
    assert shuffled.source_images is images


IMAGES, LABELS = torch.linspace(-1.0, 1.0, 4 * 16 * 16).view(4, 1, 16, 16), torch.tensor([0, 1, 2, 0])
WITH_NAN = IMAGES.clone()
WITH_NAN[3, 0, 5, 5] = float("nan")


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ((IMAGES + 1.0) * 127.5, ValueError, r"must be in \[-1, 1\], got values from 0 to 255; of \[0, 255\] take"),
        (
            ((IMAGES + 1.0) * 127.5).byte(),
            TypeError,
            r"must be floating in \[-1, 1\], got torch.uint8; of uint8 images",
        ),
        (WITH_NAN, ValueError, r"must be in \[-1, 1\], got values from nan to nan; look at what computes them"),
        (IMAGES[:0], ValueError, r"must be N x C x H x W with N at least 1, got \(0, 1, 16, 16\)"),
        (IMAGES[:, 0], ValueError, r"must be N x C x H x W with N at least 1, got \(4, 16, 16\)"),
    ],
)
def test_images_that_no_classifier_is_meant_for_are_refused(
    images: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"target_images {message}"):
        Task(IMAGES, LABELS, images, 3)
    with pytest.raises(error, match=f"source_images {message}"):
        Task(images, LABELS, IMAGES, 3)


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alike in C x H x W, got \(1, 16, 16\) and \(1, 12, 16\)"):
        Task(IMAGES, LABELS, IMAGES[:, :, :12], 3)


def test_images_that_are_probably_of_0_to_1_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"target_images have no value below 0.*take images \* 2 - 1"):
        Task(IMAGES, LABELS, (IMAGES + 1.0) / 2.0, 3)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (LABELS[:3], ValueError, r"one class for each of 4 images, got \(3,\)"),
        (torch.eye(4, dtype=torch.int64), ValueError, r"one class for each of 4 images, got \(4, 4\)"),
        (torch.tensor([0, 1, 3, 0]), ValueError, "must be 0 to 2 of 3 classes, got 0 to 3"),
        (torch.tensor([0, -1, 2, 0]), ValueError, "must be 0 to 2 of 3 classes, got -1 to 2"),
        (LABELS.float(), TypeError, "must be whole numbers, the classes, got torch.float32"),
    ],
)
def test_labels_that_are_none_of_the_classes_are_refused(labels: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"source_labels must be .*{message.removeprefix('must be ')}"):
        Task(IMAGES, labels, IMAGES, 3)


def test_scorer_needs_labels() -> None:
    with pytest.raises(LabelMissingError, match="nameless has no labels"):
        Scorer(toy_domain("nameless", labelled=False))


def test_task_holds_source_labels_and_target_images_in_order() -> None:
    source, target = toy_domain("a", 9), toy_domain("b", 12, seed=1)
    task = make_task(source, target)
    assert torch.equal(task.source_labels, torch.arange(9) % 3)
    assert torch.allclose(task.source_images, source.images(range(9)).float() / 127.5 - 1.0)
    assert torch.allclose(task.target_images, target.images(range(12)).float() / 127.5 - 1.0)
    assert (task.classes, task.channels) == (3, 1)


def test_task_leaves_the_labels_of_the_target_behind() -> None:
    """No field of a task holds anything that depends on them."""
    source = toy_domain("a", 9)
    labelled, unlabelled = (make_task(source, toy_domain("b", 9, seed=1, labelled=known)) for known in (True, False))
    for name in ("source_images", "source_labels", "target_images"):
        assert torch.equal(getattr(labelled, name), getattr(unlabelled, name))
    assert labelled.classes == unlabelled.classes
    assert len(vars(labelled)) == 4


def test_task_refuses_a_source_without_labels() -> None:
    with pytest.raises(LabelMissingError, match="a has no labels, but they are needed here"):
        make_task(toy_domain("a", labelled=False), toy_domain("b"))


def test_task_refuses_other_channels() -> None:
    rgb = ArrayDomain("rgb", torch.zeros(3, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(DomainError, match="toy has 1 channels and rgb has 3"):
        make_task(toy_domain(), rgb)


def test_oracle_task_holds_the_labels_of_the_target() -> None:
    task = make_oracle_task(toy_domain("b", 9))
    assert torch.equal(task.source_labels, torch.arange(9) % 3)


def test_oracle_task_needs_labels_of_every_image() -> None:
    images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    with pytest.raises(LabelMissingError, match="half has no labels, so there is no oracle"):
        make_oracle_task(ArrayDomain("half", images, torch.tensor([0, -1])))
