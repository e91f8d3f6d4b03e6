"""Averaged weights against a numpy recursion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from munitaug.methods import DistanceGan, Munit, SemanticConsistency
from munitaug.training.averaging import AveragedWeights, translator_parameters
from tests.methods.cases import TINY_DISTANCE
from tests.oracles import averaged_by_numpy
from tests.tiny import TINY

NAME = "auto_encoders.b.decoder.to_image.conv.weight"


def wander(
    method: Munit, averaged: AveragedWeights, steps: int
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Moves all weights at random and averages; gives the history of one of them."""
    generator = torch.Generator().manual_seed(0)
    weight = dict(method.named_parameters())[NAME]
    history = [weight.detach().double().numpy().copy()]
    for step in range(steps):
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        averaged.update(step)
        history.append(weight.detach().double().numpy().copy())
    return history


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_equals_a_numpy_recursion(decay: float) -> None:
    method = Munit(TINY)
    averaged = AveragedWeights(method, decay)
    history = wander(method, averaged, steps=30)
    np.testing.assert_allclose(averaged.average[NAME].numpy(), averaged_by_numpy(history, decay), atol=1e-5)


def test_a_short_run_forgets_the_initial_weights() -> None:
    method = Munit(TINY)
    averaged = AveragedWeights(method, 0.999)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.fill_(1.0)
    for step in range(20):
        averaged.update(step)
    # the initial weight keeps the product of (1 + n) / (10 + n), n = 0 ... 19, which is 9! 20! / 29! = 1e-7
    assert (averaged.average[NAME] - 1.0).abs().max() < 1e-6


def test_the_translators_weights_are_averaged_and_no_others() -> None:
    method = Munit(TINY)
    used = {name.split(".")[0] for name in translator_parameters(method)}
    assert used == {"auto_encoders"}
    assert len(translator_parameters(method)) == len(list(method.auto_encoders.parameters()))


def test_statistics_of_batch_norms_are_averaged_with_the_weights() -> None:
    method = DistanceGan(TINY_DISTANCE)
    averaged = AveragedWeights(method, 0.9)
    statistics = {
        name: buffer
        for name, buffer in method.named_buffers()
        if name.startswith("generators") and name.endswith(("running_mean", "running_var"))
    }
    assert statistics
    assert statistics.keys() == averaged.average.keys() - translator_parameters(method).keys()
    for buffer in statistics.values():
        buffer.add_(1.0)
    live = {name: buffer.clone() for name, buffer in statistics.items()}
    averaged.update(9)  # its decay is 10 / 19
    with averaged.in_place():
        for name, buffer in statistics.items():
            torch.testing.assert_close(buffer, live[name] - 10 / 19)
    assert all(torch.equal(buffer, live[name]) for name, buffer in statistics.items())


def test_a_wrapped_method_is_averaged_by_the_names_of_its_core() -> None:
    method = Munit(TINY)
    wrapped = SemanticConsistency(method, torch.nn.Identity())
    assert AveragedWeights(wrapped, 0.9).average.keys() == AveragedWeights(method, 0.9).average.keys()


def test_averages_stand_in_place_only_while_asked_for() -> None:
    method = Munit(TINY)
    averaged = AveragedWeights(method, 0.9)
    history = wander(method, averaged, steps=3)
    weight = dict(method.named_parameters())[NAME]

    def look_and_fail() -> None:
        with averaged.in_place():
            assert torch.equal(weight, averaged.average[NAME])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        look_and_fail()
    assert np.array_equal(weight.detach().double().numpy(), history[-1])
    averaged.apply()
    assert torch.equal(weight, averaged.average[NAME])


def test_averages_of_other_weights_are_refused() -> None:
    averaged = AveragedWeights(Munit(TINY), 0.9)
    with pytest.raises(KeyError, match="0 averaged weights were saved"):
        averaged.restore({})
    wider = AveragedWeights(Munit(replace(TINY, mlp_width=9)), 0.9)
    with pytest.raises(RuntimeError, match="size"):
        averaged.restore(wider.average)
