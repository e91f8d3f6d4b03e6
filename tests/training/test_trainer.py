"""The loop: what it records, how it steps, how it stops."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from munitaug.method import OptimiserSettings, Phase
from munitaug.methods import DistanceGan, Munit, MunitConfig
from munitaug.random import seed_of
from munitaug.training.state import load_state
from munitaug.training.trainer import STATE_FILE, Trainer, lr_factor
from munitaug.types import CheckpointError, DivergenceError, Interrupted, Pair
from tests.methods.cases import TINY_DISTANCE
from tests.oracles import averaged_by_numpy
from tests.tiny import TINY, TINY_TRAINING, tiny_trainer, without_averaging

WEIGHT = "auto_encoders.a.decoder.to_image.conv.weight"


class MunitWithTerm(Munit):
    """Adds a term of the test's own to the generator phase; it gets the step."""

    def __init__(self, config: MunitConfig, term: Callable[[int, nn.Parameter], Tensor]) -> None:
        super().__init__(config)
        self.steps = {seed_of(0, "pair", step): step for step in range(100)}
        self.term = term

    def phases(self) -> tuple[Phase, ...]:
        discriminator, generator = super().phases()
        weight = dict(self.named_parameters())[WEIGHT]

        def loss(pair: Pair) -> dict[str, Tensor]:
            return {**generator.loss(pair), "own": self.term(self.steps[pair.seed], weight)}

        return discriminator, replace(generator, loss=loss)


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_step_is_reported_and_logged_with_its_terms(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    tiny_trainer(tmp_path).run(on_step=lambda step, terms: seen.append((step, terms)), progress=False)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for (_, terms), line in zip(seen, lines, strict=True):
        assert line.items() >= terms.items()
    names = {"discriminator/gan_a", "discriminator/gan_b"}
    names |= {f"generator/{term}_{key}" for term in ("gan", "image", "style", "content") for key in "ab"}
    assert seen[0][1].keys() == names


def test_the_last_step_is_logged_and_saved_whatever_the_intervals(tmp_path: Path) -> None:
    config = replace(TINY_TRAINING, max_steps=5, log_every_steps=2, save_every_steps=3)
    tiny_trainer(tmp_path, config).run(progress=False)
    assert [line["step"] for line in log_of(tmp_path)] == [2, 4, 5]
    assert load_state(tmp_path / STATE_FILE)[1] == 5


def test_a_method_that_was_loaded_trains_in_training_mode(tmp_path: Path) -> None:
    method = DistanceGan(TINY_DISTANCE).eval()
    trained = tiny_trainer(tmp_path, TINY_TRAINING, method).run(progress=False)
    assert all(module.training for module in trained.modules())


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_trainer(tmp_path).run(progress=False)
    assert capfd.readouterr() == ("", "")


def test_the_run_ends_with_averaged_weights_that_equal_a_numpy_recursion(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    weight = dict(trainer.method.named_parameters())[WEIGHT]
    history = [weight.detach().double().numpy().copy()]
    trainer.run(on_step=lambda *_: history.append(weight.detach().double().numpy().copy()), progress=False)
    expected = averaged_by_numpy(history, TINY.optimiser.ema_decay)
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6)
    assert not np.array_equal(weight.detach().double().numpy(), history[-1])


def test_without_averaging_the_run_ends_with_the_last_weights(tmp_path: Path) -> None:
    method = Munit(without_averaging())
    weight = dict(method.named_parameters())[WEIGHT]
    last: list[Tensor] = []
    tiny_trainer(tmp_path, method=method).run(on_step=lambda *_: last.append(weight.detach().clone()), progress=False)
    assert torch.equal(weight, last[-1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (OptimiserSettings(), {0: 1.0, 9: 1.0}),
        (OptimiserSettings(halve_every_steps=4), {0: 1.0, 3: 1.0, 4: 0.5, 7: 0.5, 8: 0.25}),
        (OptimiserSettings(linear_decay_from=0.5), {0: 1.0, 5: 1.0, 6: 0.8, 7: 0.6, 9: 0.2}),
        (OptimiserSettings(linear_decay_from=0.0), {0: 1.0, 1: 0.9, 9: 0.1}),
        (OptimiserSettings(linear_decay_from=0.5, halve_every_steps=8), {7: 0.6, 8: 0.2, 9: 0.1}),
    ],
)
def test_learning_rates_of_a_run_of_ten_steps(settings: OptimiserSettings, expected: dict[int, float]) -> None:
    assert {step: lr_factor(settings, step, 10) for step in expected} == {
        step: pytest.approx(factor) for step, factor in expected.items()
    }


def test_the_learning_rate_never_reaches_zero() -> None:
    assert lr_factor(OptimiserSettings(linear_decay_from=0.0), 9999, 10_000) == pytest.approx(1e-3)


def test_the_optimisers_follow_the_schedule_and_the_scale_of_their_phase(tmp_path: Path) -> None:
    settings = OptimiserSettings(lr=1e-3, linear_decay_from=0.5)
    trainer = tiny_trainer(tmp_path, method=Munit(replace(TINY, optimiser=settings, discriminator_lr_scale=4.0)))
    rates: list[dict[str, float]] = []
    trainer.run(
        on_step=lambda *_: rates.append({n: o.param_groups[0]["lr"] for n, o in trainer.optimisers.items()}),
        progress=False,
    )
    assert [rate["generator"] for rate in rates] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert [rate["discriminator"] for rate in rates] == pytest.approx([4 * rate["generator"] for rate in rates])


def gradient_norms(folder: Path, clip_norm: float) -> list[float]:
    trainer = tiny_trainer(folder, replace(TINY_TRAINING, clip_norm=clip_norm))
    norms: list[float] = []

    def measure(step: int, terms: dict[str, float]) -> None:
        grads = [p.grad for p in trainer.phases[1].modules[0].parameters() if p.grad is not None]
        norms.append(sum(float(grad.double().square().sum()) for grad in grads) ** 0.5)

    trainer.run(on_step=measure, progress=False)
    return norms


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    free = gradient_norms(tmp_path / "free", 0.0)
    assert min(free) > 0.5
    assert gradient_norms(tmp_path / "clipped", 0.5) == pytest.approx([0.5] * 6, rel=1e-3)
    assert gradient_norms(tmp_path / "wide", 1e6) == pytest.approx(free)


def test_a_phase_may_have_a_norm_of_its_own_and_the_smaller_one_holds(tmp_path: Path) -> None:
    class Clipped(Munit):
        def phases(self) -> tuple[Phase, ...]:
            discriminator, generator = super().phases()
            return discriminator, replace(generator, clip_norm=0.25)

    for run_norm, expected in ((0.0, 0.25), (0.5, 0.25), (0.125, 0.125)):
        trainer = tiny_trainer(tmp_path / str(run_norm), replace(TINY_TRAINING, clip_norm=run_norm), Clipped(TINY))
        trainer.run(progress=False)
        norms = [
            sum(float(p.grad.double().square().sum()) for p in phase.modules[0].parameters() if p.grad is not None)
            ** 0.5
            for phase in trainer.phases
        ]
        assert norms[1] == pytest.approx(expected, rel=1e-3)
        assert run_norm > 0.0 or norms[0] > 0.25


def test_a_phase_runs_at_multiples_of_its_interval(tmp_path: Path) -> None:
    class SlowDiscriminator(Munit):
        def phases(self) -> tuple[Phase, ...]:
            discriminator, generator = super().phases()
            return replace(discriminator, every=3), generator

    tiny_trainer(tmp_path, method=SlowDiscriminator(TINY)).run(progress=False)
    with_discriminator = [line["step"] for line in log_of(tmp_path) if "discriminator/gan_a" in line]
    assert with_discriminator == [1, 4]  # steps 0 and 3


def test_only_the_modules_of_the_running_phase_get_gradients(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    class Watching(Munit):
        def phases(self) -> tuple[Phase, ...]:
            def watched(phase: Phase) -> Phase:
                def loss(pair: Pair) -> dict[str, Tensor]:
                    parts = (self.discriminators, self.auto_encoders)
                    first, second = (any(p.requires_grad for p in part.parameters()) for part in parts)
                    seen.append((first, second))
                    return phase.loss(pair)

                return replace(phase, loss=loss)

            discriminator, generator = super().phases()
            return watched(discriminator), watched(generator)

    tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=2), Watching(TINY)).run(progress=False)
    assert seen == [(True, False), (False, True)] * 2


def test_the_sum_of_the_terms_is_minimised(tmp_path: Path) -> None:
    """The first Adam step moves each weight by lr against the sign of its gradient, whatever its size."""
    config = replace(TINY, optimiser=OptimiserSettings(lr=1e-3, weight_decay=0.0))
    method, twin = Munit(config), Munit(config)
    tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=1), method).run(progress=False)
    trainer = tiny_trainer(tmp_path, method=twin)
    twin.discriminators.load_state_dict(method.discriminators.state_dict())  # updated first, as published
    twin.zero_grad()
    for loss in trainer.phases[1].loss(trainer.loader.pair_at(0)).values():
        loss.backward(retain_graph=True)
    before, after = dict(twin.named_parameters())[WEIGHT], dict(method.named_parameters())[WEIGHT]
    assert before.grad is not None
    clear = before.grad.abs() > 1e-5
    assert clear.float().mean() > 0.9
    expected = before - 1e-3 * before.grad.sign()
    torch.testing.assert_close(after[clear], expected[clear], atol=2e-6, rtol=0)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_term_that_is_not_finite_stops_the_run_and_keeps_the_state(tmp_path: Path, value: str) -> None:
    method = MunitWithTerm(TINY, lambda step, weight: weight.sum() * 0 + (float(value) if step == 3 else 0.0))
    with pytest.raises(DivergenceError) as caught:
        tiny_trainer(tmp_path, method=method).run(progress=False)
    for part in ("diverged at step 3", "generator term own is not finite", "after step 2", str(tmp_path / STATE_FILE)):
        assert part in str(caught.value)
    assert "clip_norm" in str(caught.value)
    tensors, step = load_state(tmp_path / STATE_FILE)
    assert step == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_weights_that_are_not_finite_never_replace_a_good_state(tmp_path: Path) -> None:
    # the value is 0, but the slope of a square root at 0 is not finite
    method = MunitWithTerm(TINY, lambda step, weight: (weight * (step != 5)).square().sum().sqrt())
    with pytest.raises(DivergenceError, match=r"diverged before step 6: .* is not finite. The last good state stays"):
        tiny_trainer(tmp_path, method=method).run(progress=False)
    assert load_state(tmp_path / STATE_FILE)[1] == 4


def test_moments_that_are_not_finite_never_replace_a_good_state(tmp_path: Path) -> None:
    """A huge gradient leaves the weight where it is, and its second moment infinite for ever."""
    method = MunitWithTerm(TINY, lambda step, weight: weight.sum() * (1e30 if step == 5 else 0.0))
    with pytest.raises(DivergenceError, match=r"diverged before step 6: optimiser/generator/.* is not finite"):
        tiny_trainer(tmp_path, method=method).run(progress=False)
    assert load_state(tmp_path / STATE_FILE)[1] == 4


def test_a_stop_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted, match=r"stopped after step 3 of 6; the state is in .*: run .* with --resume"):
        tiny_trainer(tmp_path).run(
            on_step=lambda step, _: done.append(step), should_stop=lambda: len(done) == 2, progress=False
        )
    assert done == [1, 2, 3]
    assert load_state(tmp_path / STATE_FILE)[1] == 3


def test_a_stop_at_the_last_step_is_no_interruption(tmp_path: Path) -> None:
    config = replace(TINY_TRAINING, max_steps=1)
    tiny_trainer(tmp_path, config).run(should_stop=lambda: True, progress=False)


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(tmp_path: Path) -> None:
    first = tiny_trainer(tmp_path).run(progress=False).state_dict()
    again = tiny_trainer(tmp_path).run(resume=True, progress=False).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no state file"):
        tiny_trainer(tmp_path).run(resume=True, progress=False)


@pytest.mark.parametrize(
    ("saved", "resumed"),
    [
        (TINY, replace(TINY, width=5)),
        (TINY, replace(TINY, n_scales=1)),
        (TINY, replace(TINY, spectral_norm=True)),
        (without_averaging(), TINY),
    ],
    ids=["width", "scales", "spectral-norm", "averaging"],
)
def test_a_state_of_another_configuration_is_refused(tmp_path: Path, saved: MunitConfig, resumed: MunitConfig) -> None:
    tiny_trainer(tmp_path, method=Munit(saved)).run(progress=False)
    with pytest.raises(CheckpointError, match="belongs to another method or configuration"):
        tiny_trainer(tmp_path, method=Munit(resumed)).run(resume=True, progress=False)


def test_channels_last_runs_resume_exactly_too(tmp_path: Path) -> None:
    config = replace(TINY_TRAINING, channels_last=True)
    whole = tiny_trainer(tmp_path / "whole", config).run(progress=False).state_dict()
    tiny_trainer(tmp_path / "parts", replace(config, max_steps=2)).run(progress=False)
    resumed = tiny_trainer(tmp_path / "parts", config).run(resume=True, progress=False).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_memory_order_changes_nothing_but_speed(tmp_path: Path) -> None:
    terms: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for layout, found in terms.items():
        trainer = tiny_trainer(tmp_path / str(layout), replace(TINY_TRAINING, max_steps=2, channels_last=layout))
        trainer.run(on_step=lambda _, values, found=found: found.append(values), progress=False)  # type: ignore[misc]
    for one, other in zip(terms[True], terms[False], strict=True):
        assert one == {name: pytest.approx(value, rel=1e-3) for name, value in other.items()}


def test_bfloat16_gives_nearly_the_terms_of_float32(tmp_path: Path) -> None:
    terms: dict[str, float] = {}
    first: dict[str, float] = {}
    config = replace(TINY_TRAINING, max_steps=1)
    tiny_trainer(tmp_path / "32", config).run(on_step=lambda _, values: first.update(values), progress=False)
    half = tiny_trainer(tmp_path / "16", replace(config, precision="bfloat16"))
    assert half.autocast_dtype == torch.bfloat16
    half.run(on_step=lambda _, values: terms.update(values), progress=False)
    assert terms == {name: pytest.approx(value, rel=0.1, abs=0.02) for name, value in first.items()}
    assert terms != first
    assert all(parameter.dtype == torch.float32 for parameter in half.method.parameters())


def test_sample_grids_are_drawn_of_the_averaged_weights(tmp_path: Path) -> None:
    config = replace(TINY_TRAINING, max_steps=5, sample_every_steps=2, batch_size=10)
    trainer = tiny_trainer(tmp_path, config)
    trainer.run(progress=False)
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["step-00000002.png", "step-00000004.png", "step-00000005.png"]
    # at most 8 columns; rows: originals, four styles, targets; 16 px drawn three times as large, 2 px apart
    assert Image.open(files[0]).size == (8 * 50 + 2, 6 * 50 + 2)
    last = files[-1].read_bytes()
    trainer.averaged = None  # the averaged weights are in the method now
    assert trainer.draw_samples(5).read_bytes() == last


def test_tensorboard_events_are_written_on_request(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=1, tensorboard=True)).run(progress=False)
    assert [file.name.startswith("events") for file in (tmp_path / "tensorboard").iterdir()] == [True]


def test_labels_and_their_absence_reach_the_losses(tmp_path: Path) -> None:
    labels: list[Tensor | None] = []

    class Watching(Munit):
        def phases(self) -> tuple[Phase, ...]:
            discriminator, generator = super().phases()

            def loss(pair: Pair) -> dict[str, Tensor]:
                labels.append(pair.label_a)
                return generator.loss(pair)

            return discriminator, replace(generator, loss=loss)

    trainer = tiny_trainer(tmp_path, replace(TINY_TRAINING, max_steps=1), Watching(TINY))
    trainer.run(progress=False)
    expected = trainer.loader.pair_at(0).label_a
    assert expected is not None
    assert labels[0] is not None
    assert torch.equal(labels[0], expected)


@pytest.mark.slow
def test_compiled_losses_give_the_same_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # traced, but run eagerly: to build kernels for a CPU takes minutes and tests torch
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    terms: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for compiled, found in terms.items():
        trainer = tiny_trainer(tmp_path / str(compiled), replace(TINY_TRAINING, max_steps=1, compile=compiled))
        trainer.run(on_step=lambda _, values, found=found: found.update(values), progress=False)  # type: ignore[misc]
    assert terms[True] == {name: pytest.approx(value, rel=1e-3, abs=1e-5) for name, value in terms[False].items()}


def reading_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str]) -> Trainer:
    """Gives a trainer that reads ahead as for a GPU, and notes in which thread images are pinned."""

    def pin(image: Tensor) -> Tensor:
        seen.append(threading.current_thread().name)
        return image

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    made = tiny_trainer(folder)
    made.reads_ahead = True
    return made


def test_pairs_read_ahead_give_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_trainer(tmp_path / "plain").run(progress=False).state_dict()
    seen: list[str] = []
    ahead = reading_ahead(tmp_path / "ahead", monkeypatch, seen).run(progress=False).state_dict()
    assert all(torch.equal(value, ahead[name]) for name, value in plain.items())
    assert set(seen) == {"munitaug-reader"}
    steps = TINY_TRAINING.max_steps
    assert 2 * steps <= len(seen) <= 3 * (steps + 3)
    assert "munitaug-reader" not in {thread.name for thread in threading.enumerate()}


def test_what_the_thread_meets_ends_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = reading_ahead(tmp_path, monkeypatch, [])
    pair_at = trainer.loader.pair_at

    def failing(step: int, rows: Tensor | None = None) -> Pair:
        if step == 3:
            raise OSError("the disk is gone")
        return pair_at(step, rows)

    monkeypatch.setattr(trainer.loader, "pair_at", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.run(progress=False)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]
    assert "munitaug-reader" not in {thread.name for thread in threading.enumerate()}


def test_only_a_gpu_is_read_ahead_for(tmp_path: Path) -> None:
    assert not tiny_trainer(tmp_path).reads_ahead


def test_what_draws_from_the_global_generator_draws_by_seed_and_step(tmp_path: Path) -> None:
    def drawn_by(folder: str, seed: int) -> list[float]:
        numbers: list[float] = []

        def term(step: int, weight: nn.Parameter) -> Tensor:
            numbers.append(torch.rand(()).item())
            return 0.0 * weight.sum()

        config = replace(TINY_TRAINING, max_steps=4)
        trainer = tiny_trainer(tmp_path / folder, config, MunitWithTerm(TINY, term))
        trainer.config = replace(config, seed=seed)  # the loader's seed stays, which the term knows steps by
        torch.manual_seed(len(folder))
        trainer.run(progress=False)
        return numbers

    first = drawn_by("first", 0)
    assert len(set(first)) == 4
    assert drawn_by("once more", 0) == first
    assert not set(first) & set(drawn_by("another", 1))


def test_betas_and_weight_decay_reach_every_optimiser(tmp_path: Path) -> None:
    settings = OptimiserSettings(lr=1e-3, betas=(0.25, 0.75), weight_decay=0.125)
    trainer = tiny_trainer(tmp_path, method=Munit(replace(TINY, optimiser=settings)))
    for optimiser in trainer.optimisers.values():
        (group,) = optimiser.param_groups
        assert (group["betas"], group["weight_decay"]) == ((0.25, 0.75), 0.125)
