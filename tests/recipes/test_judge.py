"""The judge of translations: what it marks, whose features it gives, what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import build_classifier
from munitaug.data.domain import ArrayDomain
from munitaug.recipes import judge as judging
from munitaug.recipes.judge import Judge, make_judge
from munitaug.types import LabelMissingError
from tests.runs import toy_domain


class SeesBrightness(nn.Module):
    """Sees class 0 in dark images and class 1 in bright ones; counts its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.channels_seen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.channels_seen.add(x.shape[1])
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([-level, level], dim=1)


IMAGES = torch.tensor([0, 255, 0, 255], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 16, 16)
LABELS = torch.tensor([0, 0, 1, 1])


def test_marks_name_the_class_that_is_seen_where_it_is_not_the_label() -> None:
    assert Judge(SeesBrightness(), 1, "judge").marks(IMAGES, LABELS) == (None, "1", "0", None)


def test_short_class_names_stand_on_the_marks_and_long_ones_do_not() -> None:
    judge = Judge(SeesBrightness(), 1, "judge", ("dim", "bright"))
    assert judge.marks(IMAGES, LABELS) == (None, "1", "dim", None)


def test_images_get_the_channels_that_the_judge_knows() -> None:
    classifier = SeesBrightness()
    assert Judge(classifier, 3, "judge").marks(IMAGES, LABELS) == (None, "1", "0", None)
    assert classifier.channels_seen == {3}


def test_a_label_that_the_judge_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 7 classes, .* go up to 7; got 4 x 2"):
        Judge(SeesBrightness(), 1, "judge").marks(IMAGES, torch.tensor([0, 0, 7, 1]))


def test_a_judge_in_training_is_asked_in_evaluation_mode_and_put_back() -> None:
    modes: list[bool] = []
    classifier = SeesBrightness().train()
    classifier.register_forward_hook(lambda module, *others: modes.append(module.training))
    Judge(classifier, 1, "judge").marks(IMAGES, LABELS)
    assert (modes, classifier.training) == ([False], True)


def test_features_are_those_before_the_last_layer_or_else_the_scores() -> None:
    small = build_classifier("lenet", 1, 3, seed=0).eval()
    x = IMAGES.float() / 127.5 - 1.0
    with torch.no_grad():
        from_features = small.head(Judge(small, 1, "judge").features(IMAGES))  # type: ignore[operator]
        torch.testing.assert_close(from_features, small(x))
    assert Judge(SeesBrightness(), 1, "judge").features(IMAGES).tolist() == [[1, -1], [-1, 1], [1, -1], [-1, 1]]


def test_a_domain_makes_a_judge_that_knows_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "train_classifier", lambda domain, **settings: SeesBrightness())
    domain = ArrayDomain("named", IMAGES, LABELS, ("no", "yes"))
    judge = make_judge(domain, IMAGES, 0, False)
    assert (judge.channels, judge.class_names, judge.name) == (1, ("no", "yes"), "a small classifier of named")


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"16 x 16 px \(toy\), but translations are 20 x 24; .* --size 20"):
        make_judge(toy_domain(), torch.zeros(1, 1, 24, 20, dtype=torch.uint8), 0, False)


def test_an_unlabelled_domain_is_refused() -> None:
    with pytest.raises(LabelMissingError, match="toy has no labels"):
        make_judge(toy_domain(labelled=False), IMAGES, 0, False)
