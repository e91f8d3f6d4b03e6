"""Several ranks train what one trains: the same trajectory, one run folder, one stop, clear refusals."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from munitaug import ranks
from munitaug.method import Method, OptimiserSettings, Phase
from munitaug.methods import METHODS, CycleGan, Munit, TransGaga
from munitaug.training import TrainConfig
from munitaug.training.state import load_state
from munitaug.training.trainer import STATE_FILE
from munitaug.types import CheckpointError, DivergenceError, Interrupted, Pair
from tests.methods.cases import CASES, TINY_CYCLE, TINY_LANDMARKS
from tests.ranks import on_ranks, results
from tests.tiny import TINY, TINY_TRAINING, tiny_loader, tiny_trainer, without_averaging

pytestmark = pytest.mark.timeout(600)  # seconds where cores are free; processes wait for one another where not
CONFIG = replace(TINY_TRAINING, max_steps=3, batch_size=4)
IN_TWO_TURNS = replace(CONFIG, accumulate=2)
BATCH_NORM = {
    "distancegan", "distancegan-all-terms", "distancegan-one-sided", "gcgan", "gcgan-all-terms", "gcgan-one-sided",
}  # fmt: skip
COMPARING_IMAGES = {"distancegan-resnet", "dritpp", "dritpp-feature-wise", "munit-all-terms"}
"""Distances between images, mode seeking and spectral norm see the images of one turn at a time."""


class Trace(NamedTuple):
    """What a training computed: the terms of each step, the last gradients, what the method keeps between steps."""

    terms: list[dict[str, float]]
    gradients: dict[str, Tensor]
    kept: dict[str, Tensor]


def trace(method: Method, config: TrainConfig, folder: Path) -> Trace:
    """Gives the trace of a training whose steps are so small that rounding is not magnified."""
    trainer = tiny_trainer(folder, config, method)
    trainer.phases = tuple(replace(phase, lr_scale=1e-6) for phase in trainer.phases)
    terms: list[dict[str, float]] = []
    trainer.run(on_step=lambda _, values: terms.append(values), progress=False)
    weights = dict(method.named_parameters())
    gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    return Trace(terms, gradients, {n: value for n, value in method.state_dict().items() if n not in weights})


def traces(folder: Path, config: TrainConfig) -> dict[str, Trace]:
    return {name: trace(case.make(0, 3), config, folder / name) for name, case in CASES.items()}


def differences(first: Trace, second: Trace) -> dict[str, float]:
    """Gives the largest differences: of terms, of gradients as a share of the largest of all, of what is kept.

    Those of terms above 1 are shares of the term.
    """
    assert first.gradients.keys() == second.gradients.keys()
    assert [step.keys() for step in first.terms] == [step.keys() for step in second.terms]
    assert {name: value.shape for name, value in first.kept.items()} == {n: v.shape for n, v in second.kept.items()}
    largest = max(float(gradient.abs().max()) for gradient in first.gradients.values())
    pairs = [(value, second.gradients[name]) for name, value in first.gradients.items()]
    kept = [(value, second.kept[name]) for name, value in first.kept.items() if value.numel() > 0]
    steps = zip(first.terms, second.terms, strict=True)
    terms = [abs(one[name] - two[name]) / max(1.0, abs(one[name])) for one, two in steps for name in one]
    return {
        "terms": max(terms),
        "gradients": max(float((one - two).abs().max()) for one, two in pairs) / largest,
        "kept": max((float((one - two).abs().max()) for one, two in kept), default=0.0),
    }


def agree(name: str, alone: dict[str, Trace], other: Trace) -> bool:
    """Says whether a training computed what one rank alone computed, but for rounding."""
    found = differences(alone[name], other)
    # landmarks of networks without training lie in a plane: their axes have no length, and codes are large
    least = {"gradients": 1e-2} if name == "transgaga" else {}
    return all(value < least.get(what, 2e-5) for what, value in found.items())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    return traces(tmp_path_factory.mktemp("alone"), CONFIG)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trace]]:
    return results(2, partial(traces, config=CONFIG), tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def by_two_in_turns(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trace]]:
    return results(2, partial(traces, config=IN_TWO_TURNS), tmp_path_factory.mktemp("turns"))


def test_every_method_is_in_the_grid() -> None:
    assert METHODS.keys() <= {name.split("-")[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_compute_what_one_computes(
    name: str, alone: dict[str, Trace], by_two: list[dict[str, Trace]]
) -> None:
    """Batch norm alone takes its statistics of a rank's own images."""
    assert agree(name, alone, by_two[0][name]) == (name not in BATCH_NORM)


@pytest.mark.parametrize("name", CASES)
def test_gradients_accumulated_over_turns_are_those_of_the_batch(
    name: str, tmp_path: Path, alone: dict[str, Trace]
) -> None:
    turns = trace(CASES[name].make(0, 3), IN_TWO_TURNS, tmp_path)
    assert agree(name, alone, turns) == (name not in BATCH_NORM | COMPARING_IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES.keys() - BATCH_NORM - COMPARING_IMAGES))
def test_two_ranks_in_two_turns_compute_what_one_computes(
    name: str, alone: dict[str, Trace], by_two_in_turns: list[dict[str, Trace]]
) -> None:
    assert agree(name, alone, by_two_in_turns[0][name])


@pytest.mark.parametrize("name", CASES)
def test_ranks_end_with_equal_gradients_and_terms(name: str, by_two: list[dict[str, Trace]]) -> None:
    first, second = (of_rank[name] for of_rank in by_two)
    assert first.terms == second.terms
    assert all(torch.equal(gradient, second.gradients[key]) for key, gradient in first.gradients.items())


def test_the_moments_of_landmarks_follow_the_whole_batch(tmp_path: Path) -> None:
    """Two steps of warm-up and one after it, where the axes are fixed."""
    new = TransGaga(replace(TINY_LANDMARKS, warm_up_steps=2))
    whole = trace(deepcopy(new), CONFIG, tmp_path / "one")
    turns = trace(deepcopy(new), replace(CONFIG, accumulate=4), tmp_path / "turns")
    assert int(whole.kept["finished_steps"]) == int(turns.kept["finished_steps"]) == 3
    for name, value in whole.kept.items():
        if "running" in name:
            torch.testing.assert_close(turns.kept[name], value, atol=1e-6, rtol=0.0)
            assert float((value - new.state_dict()[name]).abs().max()) > 1e-3
    for trained in (whole, turns):
        assert ["generator/cycle_a2b" in terms for terms in trained.terms] == [False, False, True]


def slow_munit() -> Method:
    return Munit(replace(TINY, optimiser=OptimiserSettings(lr=1e-6)))


def slow_cyclegan() -> Method:
    return CycleGan(replace(TINY_CYCLE, optimiser=OptimiserSettings(lr=1e-6, weight_decay=0.0)))


def train(folder: Path, make: Callable[[], Method], config: TrainConfig) -> None:
    tiny_trainer(folder, config, make()).run(progress=False)


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_trajectory(one: Path, other: Path, made: Method, unmoved: set[str]) -> None:
    """Holds all terms and weights against each other; weights moved seven times as far as they may differ."""
    first, second = log_of(one), log_of(other)
    assert first == [{name: pytest.approx(value, abs=1e-5) for name, value in step.items()} for step in second]
    weights, others = (load_state(folder / STATE_FILE)[0] for folder in (one, other))
    with_effect = {name: value.detach() for name, value in made.named_parameters() if name not in unmoved}
    for name in with_effect:
        torch.testing.assert_close(weights[f"method/{name}"], others[f"method/{name}"], atol=2e-6, rtol=0.0)
    moved = [float((weights[f"method/{name}"] - value).abs().max()) for name, value in with_effect.items()]
    assert max(moved) >= 7 * 2e-6


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make"), [("munit", slow_munit), ("cyclegan", slow_cyclegan)])
def test_two_ranks_are_where_one_is_after_twenty_steps(name: str, make: Callable[[], Method], tmp_path: Path) -> None:
    """Steps are small, because training magnifies rounding: see docs/cluster.md."""
    config = replace(CONFIG, max_steps=20)
    train(tmp_path / "one", make, config)
    results(2, partial(train, make=make, config=config), tmp_path / "two")
    assert_same_trajectory(tmp_path / "one", tmp_path / "two", make(), CASES[name].without_effect(make()))


class PowerCut(RuntimeError):
    """Stops a training after a step."""


def train_until(folder: Path, stop: int, resume: bool) -> None:
    def cut(done: int, terms: dict[str, float]) -> None:
        if done == stop:
            raise PowerCut

    config = replace(CONFIG, max_steps=8)
    trainer = tiny_trainer(folder, config, slow_cyclegan())
    try:
        trainer.run(resume=resume, on_step=cut, progress=False)
    except PowerCut:
        ranks.wait()


@pytest.mark.parametrize("counts", [(2, 1), (1, 2), (2, 4)])
def test_another_number_of_ranks_goes_on_with_the_same_trajectory(tmp_path: Path, counts: tuple[int, int]) -> None:
    train_until(tmp_path / "whole", 8, resume=False)
    for count, stop, resume in zip(counts, (5, 8), (False, True), strict=True):
        results(count, partial(train_until, stop=stop, resume=resume), tmp_path / "changed")
    without = CASES["cyclegan"].without_effect(slow_cyclegan())
    first, second = log_of(tmp_path / "whole"), log_of(tmp_path / "changed")
    assert [line["step"] for line in second] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert first == [{name: pytest.approx(value, abs=1e-5) for name, value in step.items()} for step in second]
    weights, others = (load_state(tmp_path / name / STATE_FILE)[0] for name in ("whole", "changed"))
    for name in {name for name in weights if name.startswith("method/")} - {f"method/{name}" for name in without}:
        torch.testing.assert_close(weights[name], others[name], atol=1e-5, rtol=0.0)


def kill_and_resume(folder: Path) -> None:
    train_until(folder, 3, resume=False)
    train_until(folder, 5, resume=True)
    train_until(folder, 8, resume=True)


def test_a_resumed_run_of_two_ranks_has_the_bits_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    results(2, partial(train_until, stop=8, resume=False), tmp_path / "whole")
    results(2, kill_and_resume, tmp_path / "cut")
    (tensors, step), (expected, _) = (load_state(tmp_path / name / STATE_FILE) for name in ("cut", "whole"))
    assert step == 8
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def train_until_killed(folder: Path, victim: int, delay_s: float) -> None:
    if ranks.rank() == victim:
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    trainer = tiny_trainer(folder, replace(CONFIG, max_steps=40), slow_cyclegan())
    trainer.run(resume=(folder / STATE_FILE).exists(), progress=False)


@pytest.mark.slow
def test_ranks_killed_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    results(2, partial(train_until_killed, victim=-1, delay_s=0.0), tmp_path / "whole")
    died: list[int] = []
    for _ in range(5):
        victim = int(rng.integers(2))
        kill = partial(train_until_killed, victim=victim, delay_s=float(rng.uniform(0.0, 0.8)))
        answers = on_ranks(2, kill, tmp_path / "killed")
        died += [rank for rank, answer in enumerate(answers) if isinstance(answer, ProcessLookupError)]
    assert died
    results(2, partial(train_until_killed, victim=-1, delay_s=0.0), tmp_path / "killed")
    (tensors, step), (expected, _) = (load_state(tmp_path / name / STATE_FILE) for name in ("killed", "whole"))
    assert step == 40
    assert [name for name in expected if not torch.equal(tensors[name], expected[name])] == []
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def train_in_a_folder_of_its_own(folder: Path) -> str:
    with redirect_stderr(io.StringIO()) as shown:
        tiny_trainer(folder / str(ranks.rank()), replace(CONFIG, sample_every_steps=1)).run()
    return shown.getvalue()


def test_the_first_rank_alone_writes_and_shows_its_progress(tmp_path: Path) -> None:
    shown, nothing = results(2, train_in_a_folder_of_its_own, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"log.jsonl", "samples", "state"}
    assert "3/3" in shown
    assert nothing == ""


def ask_one_rank_to_stop(folder: Path) -> str:
    steps: list[int] = []
    config = replace(CONFIG, max_steps=50, save_every_steps=50)
    trainer = tiny_trainer(folder, config)
    with pytest.raises(Interrupted) as stopped:
        trainer.run(
            on_step=lambda step, _: steps.append(step),
            should_stop=lambda: ranks.rank() == 1 and len(steps) == 2,
            progress=False,
        )
    assert steps == [1, 2, 3]
    assert load_state(folder / STATE_FILE)[1] == 3
    return str(stopped.value)


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path: Path) -> None:
    first, second = results(2, ask_one_rank_to_stop, tmp_path)
    assert first == second
    assert "stopped after step 3 of 50" in first


class MunitWithNanInOnePart(Munit):
    """Its generator's loss is not finite in the second half of the batch of step 1."""

    def phases(self) -> tuple[Phase, ...]:
        discriminator, generator = super().phases()
        calls: list[int] = []

        def loss(pair: Pair) -> dict[str, Tensor]:
            calls.append(pair.part)
            terms = generator.loss(pair)
            return {**terms, "own": terms["gan_a"] * (float("nan") if len(calls) == 2 and pair.part == 1 else 0.0)}

        return discriminator, replace(generator, loss=loss)


def diverge(folder: Path) -> None:
    tiny_trainer(folder, CONFIG, MunitWithNanInOnePart(TINY)).run(progress=False)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(tmp_path: Path) -> None:
    for error in on_ranks(2, diverge, tmp_path):
        assert isinstance(error, DivergenceError)
        assert "at step 1: generator term own is not finite (nan). The last good state, after step 0" in str(error)
    assert load_state(tmp_path / STATE_FILE)[1] == 0


def lose_a_rank(folder: Path) -> None:
    def die(step: int, terms: dict[str, float]) -> None:
        if ranks.rank() == 1 and step == 2:
            os._exit(9)

    tiny_trainer(folder, replace(CONFIG, max_steps=500, save_every_steps=1)).run(on_step=die, progress=False)


def test_a_rank_that_dies_is_noticed_and_the_state_stays(tmp_path: Path) -> None:
    error, death = on_ranks(2, lose_a_rank, tmp_path)
    assert isinstance(death, ProcessLookupError)
    assert isinstance(error, ConnectionError)
    assert "rank 0 of 2 stopped, because another has gone or does not answer" in str(error)
    assert load_state(tmp_path / STATE_FILE)[1] == 2


def drift_apart(folder: Path) -> None:
    method = Munit(without_averaging())

    def push(step: int, terms: dict[str, float]) -> None:
        if step == 2:
            with torch.no_grad():
                next(method.parameters()).add_(1e-7 * ranks.rank())

    tiny_trainer(folder, replace(CONFIG, max_steps=9, save_every_steps=3), method).run(on_step=push, progress=False)


def test_ranks_whose_weights_differ_by_a_bit_are_noticed_before_they_are_saved(tmp_path: Path) -> None:
    for error in on_ranks(2, drift_apart, tmp_path):
        assert isinstance(error, DivergenceError)
        assert "before step 3 rank 1 came to have other weights than rank 0" in str(error)
    assert load_state(tmp_path / STATE_FILE)[1] == 0


def resume_elsewhere(folder: Path) -> None:
    tiny_trainer(folder / str(ranks.rank()), CONFIG).run(resume=True, progress=False)


def test_ranks_that_would_go_on_from_different_steps_are_refused(tmp_path: Path) -> None:
    tiny_trainer(tmp_path / "0", replace(CONFIG, max_steps=2)).run(progress=False)
    tiny_trainer(tmp_path / "1", replace(CONFIG, max_steps=1)).run(progress=False)
    for error in on_ranks(2, resume_elsewhere, tmp_path):
        assert isinstance(error, CheckpointError)
        assert "rank 1 does not go on from the step that rank 0 goes on from" in str(error)


def batch_of_three(folder: Path) -> None:
    tiny_trainer(folder, replace(CONFIG, batch_size=3))


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    for error in on_ranks(2, batch_of_three, tmp_path):
        assert isinstance(error, ValueError)
        assert "3 images cannot be cut into 2 equal parts (ranks: 2, accumulate: 1); make batch_size a mul" in str(
            error
        )


def load_own_rows(folder: Path) -> list[Tensor]:
    del folder
    trainer = tiny_trainer(Path("unused"), replace(CONFIG, batch_size=8, accumulate=2))
    (pair,) = [pair for _, pair in zip(range(1), trainer.loader.from_step(3, trainer._rows()), strict=False)]
    parts = trainer._turns(pair)
    assert [part.parts for part in parts] == [4, 4]
    return [torch.tensor([part.part for part in parts]), pair.a, pair.b]


def test_each_rank_reads_its_own_images_alone(tmp_path: Path) -> None:
    """Of eight: at the first turn 0, 1 and 2, 3; at the second 4, 5 and 6, 7."""
    (parts_0, a_0, b_0), (parts_1, a_1, b_1) = results(2, load_own_rows, tmp_path)
    assert (parts_0.tolist(), parts_1.tolist()) == ([0, 2], [1, 3])
    whole = tiny_loader(replace(CONFIG, batch_size=8)).pair_at(3)
    assert torch.equal(a_0, whole.a[[0, 1, 4, 5]])
    assert torch.equal(b_1, whole.b[[2, 3, 6, 7]])
    assert torch.equal(torch.cat([a_0[:2], a_1[:2], a_0[2:], a_1[2:]]), whole.a)
    assert not torch.equal(b_0, b_1)
