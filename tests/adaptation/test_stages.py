"""The recipe's parts: starts that differ, a choice without labels, and what is kept."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from munitaug.adaptation import Task, adapt, choose, make_task, refine, self_trained, self_training
from munitaug.adaptation.fit import update as plain_update
from munitaug.methods import Munit
from tests.runs import TINY_FIT, TINY_GREY, toy_domain


class Fixed(nn.Module):
    """Gives the logits it was made with, whatever it sees."""

    def __init__(self, classes: list[int], sureness: float) -> None:
        super().__init__()
        logits = sureness * nn.functional.one_hot(torch.tensor(classes), 3).float()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[: len(x)]


def toy_task() -> Task:
    return make_task(toy_domain("source", 15), toy_domain("target", 15, seed=1, labelled=False))


def test_the_surest_and_most_even_classifier_is_chosen() -> None:
    images = torch.zeros(6, 1, 16, 16)
    even, uneven = [0, 1, 2, 0, 1, 2], [0, 1, 1, 0, 1, 1]
    unsure, sure, one_sided = Fixed(even, 1.0), Fixed(even, 9.0), Fixed(uneven, 9.0)
    assert choose([unsure, sure, one_sided], images) is sure
    assert choose([one_sided, unsure], images) is one_sided
    assert choose([sure, Fixed(even, 9.0)], images) is sure


def test_starts_differ_and_the_first_is_self_training() -> None:
    task = toy_task()
    weights: dict[str, Tensor] = {}

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        model = make()
        weights[name] = model.get_parameter("head.weight").detach().clone()  # the chosen one is changed in place
        return model

    adapt(task, dataclasses.replace(TINY_FIT, starts=3), seed=5, once=once)
    assert list(weights) == ["self-trained-0", "self-trained-1", "self-trained-2"]
    assert torch.equal(weights["self-trained-0"], self_trained(task, TINY_FIT, 5).get_parameter("head.weight"))
    assert len({float(value.sum()) for value in weights.values()}) == 3


def test_what_is_kept_is_used() -> None:
    task = toy_task()
    settings = dataclasses.replace(TINY_FIT, starts=1)
    start = self_trained(task, settings, 8)
    kept = {name: value.clone() for name, value in start.state_dict().items()}
    given = adapt(task, settings, seed=5, once=lambda name, make: start)
    again = self_trained(task, settings, 8)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in kept.items())
    expected = refine(again, task, settings, 5)
    assert all(torch.equal(expected.state_dict()[name], value) for name, value in given.state_dict().items())


def test_restyled_views_change_the_refinement() -> None:
    task = toy_task()
    sure = dataclasses.replace(TINY_FIT, threshold=0.0, restyle_weight=5.0)
    restyler = Munit(TINY_GREY, seed=1).eval().requires_grad_(False).restyler("b")
    first, second = (refine(self_trained(task, sure, 0), task, sure, 0, given) for given in (None, restyler))
    assert not torch.equal(first.get_parameter("head.weight"), second.get_parameter("head.weight"))


def test_with_a_restyler_translations_join_the_refinement_alone() -> None:
    task, starts = toy_task(), []
    sure = dataclasses.replace(TINY_FIT, threshold=0.0, translation_weight=5.0)
    method = Munit(TINY_GREY, seed=1).eval().requires_grad_(False)

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        model = make()
        starts.append(model.get_parameter("head.weight").detach().clone())
        return model

    found = [
        adapt(task, sure, restyler=method.restyler("b"), translator=translator, once=once).get_parameter("head.weight")
        for translator in (None, method.translator("a", "b"))
    ]
    half = len(starts) // 2
    assert all(torch.equal(one, two) for one, two in zip(starts[:half], starts[half:], strict=True))
    assert not torch.equal(found[0], found[1])


def test_without_a_restyler_translations_are_learnt_from_at_the_start() -> None:
    task = toy_task()
    translator = Munit(TINY_GREY, seed=1).eval().requires_grad_(False).translator("a", "b")
    kept: dict[str, nn.Module] = {}

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        kept[name] = make()
        return deepcopy(kept[name])

    settings = dataclasses.replace(TINY_FIT, starts=1)
    adapt(task, settings, translator=translator, seed=5, once=once)
    wanted = self_trained(task, settings, 5, translator).get_parameter("head.weight")
    assert torch.equal(kept["self-trained-0"].get_parameter("head.weight"), wanted)


def test_stages_are_told_in_order() -> None:
    told: list[tuple[str, int]] = []
    adapt(toy_task(), TINY_FIT, on_update=lambda stage, step, loss, model: told.append((stage, step)))
    of_one = [("labelled", step) for step in (1, 2, 3)] + [("self-training", step) for step in (1, 2)]
    assert told == [*of_one, *of_one, ("refining", 1), ("refining", 2)]


def test_a_diverged_classifier_is_never_chosen() -> None:
    images, fine, broken = torch.zeros(3, 1, 16, 16), Fixed([0, 1, 2], 1.0), Fixed([0, 1, 2], float("nan"))
    assert choose([broken, fine], images) is fine
    with pytest.raises(ValueError, match="must be a classifier whose predictions are finite"):
        choose([broken], images)


def test_each_stage_takes_its_own_number_of_steps() -> None:
    told: Counter[str] = Counter()

    def note(stage: str, step: int, loss: Tensor, model: nn.Module) -> None:
        told[stage] += 1

    settings = dataclasses.replace(TINY_FIT, starts=2, steps=3, self_steps=7, start_steps=4, refine_steps=5)
    adapt(toy_task(), settings, on_update=note)
    assert told == {"labelled": 2 * 3, "self-training": 2 * 4, "refining": 5}


def test_a_restyler_without_weight_is_none() -> None:
    task, starts = toy_task(), list[Tensor]()
    method = Munit(TINY_GREY, seed=1).eval().requires_grad_(False)

    def once(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        model = make()
        starts.append(model.get_parameter("head.weight").detach().clone())
        return model

    settings = dataclasses.replace(TINY_FIT, starts=1, restyle_weight=0.0)
    for restyler in (None, method.restyler("b")):
        adapt(task, settings, restyler=restyler, translator=method.translator("a", "b"), once=once)
    assert torch.equal(starts[0], starts[1])


def test_refining_ends_at_its_peak_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    task, rates = toy_task(), list[float]()
    settings = dataclasses.replace(TINY_FIT, refine_steps=20)

    def noting(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: object) -> None:
        rates.append(optimiser.param_groups[0]["lr"])
        plain_update(loss, optimiser, schedule)  # type: ignore[arg-type]

    classifier = self_trained(task, settings, 0)
    monkeypatch.setattr(self_training, "update", noting)
    refine(classifier, task, settings, 0)
    assert rates[-1] == pytest.approx(settings.self_lr)
