"""Steps that are recorded and replayed: the same as others, and recordable at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from munitaug.method import Method, OptimiserSettings
from munitaug.methods import CycleGan, CycleGanConfig, Munit, MunitConfig, SemanticConsistency
from munitaug.training import TrainConfig, Trainer
from munitaug.training.recorded import WARM_UP_STEPS, HeldDraws, RecordedStep
from munitaug.training.trainer import lr_factor
from munitaug.types import UNLABELLED, LabelMissingError, Pair
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

    trainer.recorded = RecordedStep(trainer._whole_step, trainer._to_device, trainer.method.check, record)
    return trainer


class Elsewhere(TrainConfig):
    """A configuration whose checks are left out, so that what is for a GPU can be tried without one."""

    def __post_init__(self) -> None:
        pass


def recorded(config: TrainConfig = LONGER) -> TrainConfig:
    """Gives the configuration with recorded steps, on a CPU."""
    return Elsewhere(**(asdict(config) | {"cuda_graph": True}))


@pytest.mark.parametrize("make", [plain, same_styles, semantic])
def test_recorded_steps_give_the_weights_of_others(make: MakeMethod, tmp_path: Path) -> None:
    seen: dict[str, list[dict[str, float]]] = {"eager": [], "recorded": []}
    count: list[str] = []
    trainers = {
        "eager": tiny_trainer(tmp_path / "eager", LONGER, make()),
        "recorded": recording(tiny_trainer(tmp_path / "recorded", recorded(), make()), count),
    }
    weights = {}
    for name, trainer in trainers.items():
        method = trainer.run(on_step=lambda _, terms, name=name: seen[name].append(terms), progress=False)  # type: ignore[misc]
        weights[name] = method.state_dict()
    for mine, theirs in zip(seen["recorded"], seen["eager"], strict=True):  # learning rates differ in the eighth digit
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert count == ["recorded"] + ["replayed"] * (STEPS - WARM_UP_STEPS)


def test_a_recorded_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = recording(tiny_trainer(tmp_path / "whole", recorded()), []).run(progress=False).state_dict()
    recording(tiny_trainer(tmp_path / "parts", recorded(replace(LONGER, max_steps=4))), []).run(progress=False)
    resumed = recording(tiny_trainer(tmp_path / "parts", recorded()), []).run(resume=True, progress=False).state_dict()
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
    for _ in range(STEPS):
        trainer.recorded(pair)
    with pytest.raises(LabelMissingError):
        trainer.recorded(replace(pair, label_a=torch.full_like(pair.label_a, UNLABELLED)))


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


@pytest.mark.parametrize("make", [plain, semantic])
def test_what_draws_keeps_nothing_of_the_first_step(make: MakeMethod, tmp_path: Path) -> None:
    trainer = recording(tiny_trainer(tmp_path, LONGER, make()), [])
    assert trainer.recorded is not None
    trainer.recorded(trainer.loader.pair_at(0))
    held = trainer.recorded._draws._held
    assert held
    for draw, _ in held.values():
        cells = [cell.cell_contents for cell in draw.__closure__ or ()]
        assert not any(isinstance(cell, Pair | Tensor) for cell in cells)


def test_a_state_that_is_read_back_is_recorded_anew(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, recorded())
    trainer.save(0)
    first = trainer.recorded
    trainer._restore()
    assert trainer.recorded is not None
    assert trainer.recorded is not first


class HostTraffic(TorchDispatchMode):
    """Notes what a step asks of the CPU: numbers looked at, and tensors that come from there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.seen.append(str(func))
        out = func(*args, **(kwargs or {}))
        read = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        from_cpu = any(each.device.type == "cpu" and each.dim() > 0 for each in read)
        if from_cpu and any(each.device.type == "meta" for each in made):
            self.seen.append(str(func))
        return out


@contextmanager
def host_traffic() -> Iterator[list[str]]:
    with HostTraffic() as mode:
        yield mode.seen


def on_meta(method: Method) -> tuple[Method, Pair]:
    pair = tiny_pair()
    label = torch.zeros(2, dtype=torch.int64, device="meta")
    return method.to("meta"), replace(pair, a=pair.a.to("meta"), b=pair.b.to("meta"), label_a=label, held=HeldDraws())


RECORDABLE: dict[str, MakeMethod] = {
    "tiny": plain,
    "semantic": semantic,
    "published kernels": lambda: Munit(replace(TINY, edge_kernel=7, upsample_kernel=5)),
    "further terms": lambda: Munit(replace(TINY, weight_cycle=1.0, weight_mode_seeking=1.0, gan_loss="hinge")),
    "styles drawn once": lambda: Munit(replace(TINY, redraw_styles=False, weight_mode_seeking=1.0)),
    "spectral norm": lambda: Munit(replace(TINY, spectral_norm=True)),
}


@pytest.mark.parametrize("make", RECORDABLE.values(), ids=RECORDABLE.keys())
def test_a_step_asks_nothing_of_the_cpu(make: MakeMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    # meta tensors hold no numbers: whoever looks at one fails, as a GPU does while it records
    method, pair = on_meta(make())
    assert method.records_steps
    for phase in method.phases():
        phase.loss(pair)  # makes the draws, which come from the CPU
    monkeypatch.setattr(torch, "tensor", None)  # which makes it on the CPU, unseen by the mode
    with host_traffic() as seen:
        shared = replace(pair, shared=method.shared(pair))
        for phase in method.phases():
            with torch.autocast("cpu", torch.bfloat16):
                terms = phase.loss(shared)
            torch.stack([term.float() for term in terms.values()]).sum().backward()
    assert seen == []


def test_what_reads_the_cpu_is_seen() -> None:
    with host_traffic() as seen:
        torch.zeros(3).to("meta")
    assert seen
    method, pair = on_meta(plain())
    with host_traffic() as seen:
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


def cyclegan() -> Method:
    return CycleGan(CycleGanConfig.preset("small"))


@pytest.mark.parametrize("make", [cyclegan, lambda: SemanticConsistency(cyclegan(), nn.Identity())])
def test_a_method_whose_steps_cannot_be_recorded_is_refused(make: MakeMethod, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cuda_graph is for methods whose steps can be recorded"):
        tiny_trainer(tmp_path, recorded(), make())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrap", [False, True], ids=["munit", "semantic"])
def test_a_gpu_replays_what_it_would_do(wrap: bool, precision: Any, tmp_path: Path) -> None:
    terms: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for recorded, seen in terms.items():
        config = replace(LONGER, device="cuda", precision=precision, cuda_graph=recorded)
        munit = Munit(MunitConfig.preset("small"))
        method = SemanticConsistency(munit, tiny_classifier(3)) if wrap else munit
        trainer = tiny_trainer(tmp_path / str(recorded), config, method)
        trainer.run(on_step=lambda _, found, seen=seen: seen.append(found), progress=False)  # type: ignore[misc]
    for mine, theirs in zip(terms[True], terms[False], strict=True):
        assert mine == pytest.approx(theirs, rel=2e-2, abs=1e-3)
