"""Steps that are recorded and replayed: the same as others, and recordable at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from munitaug.method import Method, OptimiserSettings
from munitaug.methods import METHODS, Dritpp, DritppConfig, Munit, SemanticConsistency
from munitaug.training import TrainConfig, Trainer
from munitaug.training.recorded import WARM_UP_STEPS, HeldDraws, RecordedStep
from munitaug.training.trainer import lr_factor, pinned
from munitaug.types import UNLABELLED, LabelMissingError, Pair
from tests.elsewhere import ELSEWHERE, PRETENDED, traffic
from tests.methods.cases import CASES, Case
from tests.tiny import TINY, TINY_TRAINING, tiny_classifier, tiny_pair, tiny_trainer

STEPS = WARM_UP_STEPS + 3
LONGER = replace(TINY_TRAINING, max_steps=STEPS)
MakeMethod = Callable[[], Method]


def plain() -> Method:
    return Munit(TINY)


def same_styles() -> Method:
    return Munit(replace(TINY, redraw_styles=False))


def semantic() -> Method:
    return SemanticConsistency(Munit(TINY), tiny_classifier(3))


def recording(trainer: Trainer, count: list[str]) -> Trainer:
    """Gives the trainer with steps that are "recorded" by remembering the function, as a CPU can."""

    def record(step: Callable[[], None], stream: object) -> Callable[[], None]:
        assert stream is None
        count.append("recorded")

        def replay() -> None:
            count.append("replayed")
            step()

        return replay

    trainer.recorded = RecordedStep(trainer._one_step, trainer._to_device, record)
    return trainer


class Elsewhere(TrainConfig):
    """A configuration whose checks are left out, so that what is for a GPU can be tried without one."""

    def __post_init__(self) -> None:
        pass


def recorded(config: TrainConfig = LONGER) -> TrainConfig:
    """Gives the configuration with recorded steps, on a CPU."""
    return Elsewhere(**(asdict(config) | {"cuda_graph": True}))


RECORDED_CASES = {name: case for name, case in CASES.items() if not case.make(0, 3).recording_obstacle}
HINDERED = {
    "cut-fast": "flip_equivariance",
    "dritpp": "content_steps",
    "multidomain": "each step is of two other domains",
    "transgaga": "warm-up",
}


def test_every_other_method_can_be_recorded() -> None:
    assert set(CASES) - set(RECORDED_CASES) == set(HINDERED)


@pytest.mark.parametrize("case", RECORDED_CASES.values(), ids=RECORDED_CASES.keys())
def test_recorded_steps_give_the_weights_of_others(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[dict[str, float]]] = {"eager": [], "recorded": []}
    count: list[str] = []
    trainers = {
        "eager": tiny_trainer(tmp_path / "eager", recorded(), case.make(0, 3)),
        "recorded": recording(tiny_trainer(tmp_path / "recorded", recorded(), case.make(0, 3)), count),
    }
    trainers["eager"].recorded = None
    monkeypatch.setattr(trainers["eager"], "_recorder", lambda: None)
    weights = {}
    for name, trainer in trainers.items():
        method = trainer.run(on_step=lambda _, terms, name=name: seen[name].append(terms), progress=False)  # type: ignore[misc]
        weights[name] = method.state_dict()
    assert seen["recorded"] == seen["eager"]
    assert all(torch.equal(value, weights["recorded"][key]) for key, value in weights["eager"].items())
    assert count == ["recorded"] + ["replayed"] * (STEPS - WARM_UP_STEPS)


def test_a_second_run_of_a_trainer_is_recorded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count: list[str] = []
    trainer = recording(tiny_trainer(tmp_path, recorded(), CASES["munit"].make(0, 3)), count)
    first = trainer.recorded
    trainer.run(progress=False)
    monkeypatch.setattr(trainer, "_recorder", lambda: first)
    count.clear()
    trainer.run(progress=False)
    assert count[-1] == "replayed"


@pytest.mark.parametrize("name", ["semantic", "cyclegan"])  # cyclegan has a pool
def test_a_recorded_run_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    def run(folder: str, config: TrainConfig, resume: bool = False) -> dict[str, Tensor]:
        trainer = recording(tiny_trainer(tmp_path / folder, config, CASES[name].make(0, 3)), [])
        return trainer.run(resume=resume, progress=False).state_dict()

    whole = run("whole", recorded())
    run("parts", recorded(replace(LONGER, max_steps=4)))
    resumed = run("parts", recorded(), resume=True)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_every_step_reads_the_same_tensors_with_new_numbers() -> None:
    read: list[tuple[list[int], Tensor]] = []

    def body(pair: Pair) -> Tensor:
        assert pair.held is not None
        drawn = pair.held(pair, lambda generator: torch.rand(5, generator=generator), ("style",))
        assert pair.label_a is not None
        read.append(([each.data_ptr() for each in (pair.a, pair.b, pair.label_a, drawn)], drawn.clone()))
        return pair.a.mean() + drawn.sum() + pair.b.mean()

    step = RecordedStep(body, lambda pair: pair, record=lambda step, stream: step)
    pairs = [replace(tiny_pair(), a=torch.full((2, 3, 16, 16), float(number)), seed=number) for number in range(6)]
    for number, pair in enumerate(pairs):
        own = HeldDraws()(pair, lambda generator: torch.rand(5, generator=generator), ("style",))
        assert step(pair) == pytest.approx(number + float(own.sum() + pair.b.mean()), rel=1e-5)
    places, draws = zip(*read, strict=True)
    assert all(place == places[0] for place in places)
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


def test_the_images_of_the_caller_are_left_as_they_are() -> None:
    step = RecordedStep(lambda pair: pair.a.mean(), lambda pair: pair, record=lambda step, stream: step)
    first, second = tiny_pair(), replace(tiny_pair(), a=torch.zeros(2, 3, 16, 16))
    kept = first.a.clone()
    step(first)
    step(second)
    assert torch.equal(first.a, kept)


def test_labels_that_are_missing_are_refused_though_steps_are_recorded(tmp_path: Path) -> None:
    trainer = recording(tiny_trainer(tmp_path, LONGER, semantic()), [])
    assert trainer.recorded is not None
    pair = trainer.loader.pair_at(0)
    assert pair.label_a is not None
    for step in range(STEPS):
        trainer._step(step, [pair], 0)
    with pytest.raises(LabelMissingError):
        trainer._step(STEPS, [replace(pair, label_a=torch.full_like(pair.label_a, UNLABELLED))], 0)


def test_images_without_labels_are_recorded_where_no_loss_needs_them(tmp_path: Path) -> None:
    count: list[str] = []
    trainer = recording(tiny_trainer(tmp_path, LONGER), count)
    assert trainer.recorded is not None
    pair = trainer.loader.pair_at(0)
    assert pair.label_a is not None
    for _ in range(STEPS):
        trainer.recorded(replace(pair, label_a=torch.full_like(pair.label_a, UNLABELLED)))
    assert count == ["recorded"] + ["replayed"] * (STEPS - WARM_UP_STEPS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_a": None}, "takes labels with every batch or with none"),
        ({"a": torch.zeros(3, 3, 16, 16)}, r"takes images \(2, 3, 16, 16\), got \(3, 3, 16, 16\)"),
    ],
)
def test_a_batch_unlike_the_first_is_refused(changes: dict[str, Any], message: str) -> None:
    step = RecordedStep(lambda pair: pair.a.mean(), lambda pair: pair, record=lambda step, stream: step)
    step(tiny_pair())
    with pytest.raises(ValueError, match=message):
        step(replace(tiny_pair(), **changes))


@pytest.mark.parametrize("case", RECORDED_CASES.values(), ids=RECORDED_CASES.keys())
def test_what_draws_keeps_nothing_of_the_first_step(case: Case, tmp_path: Path) -> None:
    trainer = recording(tiny_trainer(tmp_path, LONGER, case.make(0, 3)), [])
    assert trainer.recorded is not None
    trainer.recorded(trainer.loader.pair_at(0))
    held = trainer.recorded._draws._held
    for draw, *_ in held.values():
        cells = [cell.cell_contents for cell in draw.__closure__ or ()]
        assert not any(isinstance(cell, Pair | Tensor) for cell in cells)


def test_a_state_that_is_read_back_is_recorded_anew(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, recorded())
    trainer.save(0)
    first = trainer.recorded
    trainer._restore()
    assert trainer.recorded is not None
    assert trainer.recorded is not first


def on_another_device(method: Method) -> tuple[Method, Pair]:
    device, pair = ELSEWHERE, tiny_pair()
    assert pair.label_a is not None
    a, b, label = (each.to(device) for each in (pair.a, pair.b, pair.label_a))
    return method.to(device), replace(pair, a=a, b=b, label_a=label, held=HeldDraws())


RECORDABLE: dict[str, MakeMethod] = {
    "tiny": plain,
    "semantic": semantic,
    "published kernels": lambda: Munit(replace(TINY, edge_kernel=7, upsample_kernel=5)),
    "further terms": lambda: Munit(replace(TINY, weight_cycle=1.0, weight_mode_seeking=1.0, gan_loss="hinge")),
    "styles drawn once": lambda: Munit(replace(TINY, redraw_styles=False, weight_mode_seeking=1.0)),
    "spectral norm": lambda: Munit(replace(TINY, spectral_norm=True)),
} | {name: lambda case=case: case.make(0, 3) for name, case in RECORDED_CASES.items()}


SEEN = pytest.mark.skipif(not PRETENDED, reason="a GPU does not tell what passes between it and the CPU")


@SEEN
@pytest.mark.parametrize("make", RECORDABLE.values(), ids=RECORDABLE.keys())
def test_a_step_asks_nothing_of_the_cpu(make: MakeMethod) -> None:
    method, pair = on_another_device(make())
    assert not method.recording_obstacle
    for phase in method.phases():
        phase.loss(pair)  # makes the draws, which come from the CPU
    with traffic() as seen:
        shared = replace(pair, shared=method.shared(pair))
        for phase in method.phases():
            with torch.autocast(pair.a.device.type, torch.bfloat16):
                terms = phase.loss(shared)
            torch.stack([term.float() for term in terms.values()]).sum().backward()
    assert seen == []


@SEEN
def test_what_reads_the_cpu_is_seen() -> None:
    method, pair = on_another_device(plain())
    with traffic() as seen:
        method.phases()[0].loss(pair)  # its styles are drawn now
    assert seen


def test_only_a_gpu_records() -> None:
    with pytest.raises(ValueError, match="cuda_graph needs a GPU"):
        TrainConfig(device="cpu", cuda_graph=True)


def test_learning_rates_of_recorded_steps_follow_the_schedule(tmp_path: Path) -> None:
    settings = OptimiserSettings(lr=1e-2, linear_decay_from=0.0)
    trainer = tiny_trainer(tmp_path, recorded(), Munit(replace(TINY, optimiser=settings)))
    rates = [group["lr"] for optimiser in trainer.optimisers.values() for group in optimiser.param_groups]
    places = [rate.data_ptr() for rate in rates]
    trainer._set_rates(3)
    assert [rate.item() for rate in rates] == pytest.approx([1e-2 * lr_factor(settings, 3, STEPS)] * 2)
    assert [rate.data_ptr() for rate in rates] == places


RECORDED_METHODS = [name for name in METHODS if name not in HINDERED or name == "dritpp"]  # whose small preset can be


def test_the_small_presets_of_these_can_be_recorded() -> None:
    for name, kind in METHODS.items():
        hindered = bool(kind(kind.config_class.preset("small")).recording_obstacle)
        assert hindered == (name not in RECORDED_METHODS), name


def refused(method: Method, reason: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"cuda_graph cannot record steps of {method.core.name}: .*{reason}"):
        tiny_trainer(folder, recorded(), method)


@pytest.mark.parametrize(("name", "reason"), HINDERED.items())
def test_a_method_whose_steps_cannot_be_recorded_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    refused(CASES[name].make(0, 3), reason, tmp_path)


def test_what_hinders_the_inner_method_hinders_the_wrapped_one(tmp_path: Path) -> None:
    refused(SemanticConsistency(CASES["transgaga"].make(0, 3), nn.Identity()), "warm-up", tmp_path)


def test_steps_that_leave_phases_out_are_refused(tmp_path: Path) -> None:
    refused(Dritpp(DritppConfig.preset("paper")), "content_steps 3 .* set it to 1", tmp_path)


class Unsaid(Munit):
    """A method of someone else's that says nothing of recording."""

    recording_obstacle = Method.recording_obstacle


def test_a_method_that_says_nothing_is_refused(tmp_path: Path) -> None:
    refused(Unsaid(TINY), "do not say", tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrap", [False, True], ids=["alone", "semantic"])
@pytest.mark.parametrize("name", RECORDED_METHODS)
def test_a_gpu_replays_what_it_would_do(name: str, wrap: bool, precision: Any, tmp_path: Path) -> None:
    terms: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for recorded, seen in terms.items():
        config = replace(LONGER, device="cuda", precision=precision, cuda_graph=recorded)
        inner = METHODS[name](METHODS[name].config_class.preset("small"))
        method = SemanticConsistency(inner, tiny_classifier(3)) if wrap else inner
        trainer = tiny_trainer(tmp_path / str(recorded), config, method)
        trainer.run(on_step=lambda _, found, seen=seen: seen.append(found), progress=False)  # type: ignore[misc]
    for mine, theirs in zip(terms[True], terms[False], strict=True):
        assert mine == pytest.approx(theirs, rel=2e-2, abs=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_records_wide_kernels_while_pairs_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(pair: Pair, device: torch.device) -> Pair:
        time.sleep(0.05)  # so that it comes while the step is recorded
        return pinned(pair, device)

    monkeypatch.setattr("munitaug.training.trainer.pinned", slowly)
    config = replace(LONGER, device="cuda", precision="bfloat16", cuda_graph=True)
    terms: list[dict[str, float]] = []
    trainer = tiny_trainer(tmp_path, config, Munit(replace(TINY, upsample_kernel=5)))
    trainer.run(on_step=lambda _, found: terms.append(found), progress=False)
    assert len(terms) == LONGER.max_steps


def test_a_trainer_lets_go_of_its_recorded_step(tmp_path: Path) -> None:
    trainer = recording(tiny_trainer(tmp_path, recorded()), [])
    trainer.run(progress=False)
    assert trainer.recorded is None
