"""The same work on two domains at once: the numbers and gradients of one after the other."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from munitaug.lanes import in_lanes, two_lanes
from munitaug.method import Method
from munitaug.methods import Munit
from munitaug.training import Trainer
from munitaug.training.config import PrecisionChoice
from tests.methods.cases import CASES
from tests.tiny import TINY, TINY_TRAINING, tiny_pair, tiny_trainer


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@contextmanager
def opened_lanes() -> Iterator[None]:
    with two_lanes() as opened, opened():
        yield


def of_key(number: float, tensor: Tensor) -> Tensor:
    return tensor * number


def thread_name(seen: list[str]) -> Callable[[str, Tensor], Tensor]:
    def work(key: str, tensor: Tensor) -> Tensor:
        seen.append(f"{key} {threading.current_thread().name}")
        return tensor

    return work


def test_work_is_done_in_two_threads_while_the_block_runs_and_here_otherwise() -> None:
    inputs = {"a": [torch.ones(1)], "b": [torch.ones(1)]}
    here = threading.current_thread().name
    seen: list[str] = []
    in_lanes(thread_name(seen), inputs)
    assert seen == [f"a {here}", f"b {here}"]
    seen.clear()
    with opened_lanes():
        in_lanes(thread_name(seen), inputs)
    assert all(line.split()[1].startswith("munitaug-lane") for line in seen)
    seen.clear()
    in_lanes(thread_name(seen), inputs)
    assert seen == [f"a {here}", f"b {here}"]


def test_both_are_at_work_at_the_same_time_forward_and_backward() -> None:
    forward, backward = threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=20)  # breaks if one comes alone

    class Meeting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, tensor: Tensor) -> Tensor:
            forward.wait()
            return tensor.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            backward.wait()
            return gradient

    weight = torch.ones(1, requires_grad=True)
    with opened_lanes():
        made = in_lanes(lambda key, tensor: Meeting.apply(tensor), {"a": [weight], "b": [weight]})
        (made["a"] + made["b"]).sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 2.0


def test_each_lane_and_the_caller_have_one_thread_in_both_directions_and_afterwards_all() -> None:
    seen: list[int] = []

    class Counting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, tensor: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return tensor.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return gradient

    def elsewhere() -> None:
        seen.append(torch.get_num_threads())

    def in_another_thread() -> int:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        return seen.pop()

    weight = torch.ones(1, requires_grad=True)
    with two_lanes() as opened:
        assert (torch.get_num_threads(), in_another_thread()) == (2, 2)
        for _ in range(2):
            with opened():
                made = in_lanes(lambda key, tensor: Counting.apply(tensor), {"a": [weight], "b": [weight]})
                (made["a"] + made["b"]).sum().backward()
                assert torch.get_num_threads() == 1
            assert (torch.get_num_threads(), in_another_thread()) == (2, 2)
    assert seen == [1] * 8


def test_a_step_that_fails_leaves_the_threads_as_they_were() -> None:
    with pytest.raises(KeyboardInterrupt), opened_lanes():
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
    assert in_lanes(of_key, {1: [torch.ones(1)]})[1].item() == 1.0


def test_what_runs_between_steps_has_all_threads(tmp_path: Path) -> None:
    seen: list[int] = []
    trainer = tiny_trainer(tmp_path, TINY_TRAINING, CASES["munit"].make(0, 3))
    trainer.run(on_step=lambda step, terms: seen.append(torch.get_num_threads()), progress=False)
    assert seen == [2] * TINY_TRAINING.max_steps


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_other_numbers_of_threads_work_one_after_the_other(threads: int) -> None:
    torch.set_num_threads(threads)
    seen: list[str] = []
    with opened_lanes():
        in_lanes(thread_name(seen), {"a": [torch.ones(1)], "b": [torch.ones(1)]})
    assert {line.split()[1] for line in seen} == {threading.current_thread().name}


@pytest.mark.parametrize("gradients", [True, False])
def test_what_work_gives_keeps_its_form(gradients: bool) -> None:
    leaf = torch.ones(2, requires_grad=gradients)
    inputs = {1: [leaf], 2: [leaf]}
    with opened_lanes(), torch.set_grad_enabled(gradients):
        tensors = in_lanes(of_key, inputs)
        pairs = in_lanes(lambda key, x: (x * key, x + key), inputs)
        named = in_lanes(lambda key, x: {f"times {key}": x * key, "plus": x + key}, inputs)
        nothing = in_lanes(lambda key, x: {}, inputs)
        none = in_lanes(lambda key, x: (), inputs)
    assert {key: tensor.tolist() for key, tensor in tensors.items()} == {1: [1, 1], 2: [2, 2]}
    assert {key: tuple(map(Tensor.tolist, pair)) for key, pair in pairs.items()} == {
        1: ([1, 1], [2, 2]),
        2: ([2, 2], [3, 3]),
    }
    assert {key: list(value) for key, value in named.items()} == {1: ["times 1", "plus"], 2: ["times 2", "plus"]}
    assert named[2]["times 2"].tolist() == [2, 2]
    assert nothing == {1: {}, 2: {}}
    assert none == {1: (), 2: ()}
    assert tensors[1].requires_grad == gradients


def test_gradients_reach_weights_inputs_and_earlier_work() -> None:
    def gradients_of(at_once: bool) -> list[Tensor]:
        torch.manual_seed(0)
        nets = {key: nn.Linear(3, 3) for key in "ab"}
        later = {key: nn.Linear(3, 3) for key in "ab"}
        x, y = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)

        def first(key: str, image: Tensor) -> tuple[Tensor, Tensor]:
            code = nets[key](image)
            return code, code.tanh()

        def second(key: str, own: Tensor, other: Tensor, unused: Tensor) -> dict[str, Tensor]:
            return {"sum": (later[key](own) * other).sum(), "number": torch.tensor(1.0), "left out": own.sum()}

        with opened_lanes() if at_once else nullcontext():
            made = in_lanes(first, {"a": [x], "b": [y]})
            a, b = made["a"], made["b"]
            terms = in_lanes(second, {"a": [*a, b[0]], "b": [*b, a[0]]})
            assert not terms["a"]["number"].requires_grad
            (terms["a"]["sum"] + 2 * terms["b"]["sum"] + a[0].sum() + terms["a"]["number"]).backward()
        parameters = [p for net in (*nets.values(), *later.values()) for p in net.parameters()]
        assert x.grad is not None
        assert y.grad is None
        return [x.grad, *(p.grad for p in parameters if p.grad is not None)]

    for at_once, one_by_one in zip(gradients_of(True), gradients_of(False), strict=True):
        torch.testing.assert_close(at_once, one_by_one)


def test_lanes_have_the_modes_of_their_caller() -> None:
    def modes(key: str, x: Tensor) -> tuple[Tensor, ...]:
        return torch.tensor(torch.is_grad_enabled()), x @ x

    inputs = {"a": [torch.ones(2, 2)], "b": [torch.ones(2, 2)]}
    with opened_lanes():
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16):
                made = in_lanes(modes, inputs)
            assert [bool(on) == gradients for on, _ in made.values()] == [True, True]
            assert [product.dtype for _, product in made.values()] == [torch.bfloat16] * 2
        assert in_lanes(modes, inputs)["b"][1].dtype == torch.float32


def test_the_first_error_is_raised_when_both_are_through() -> None:
    ended = []

    def work(key: str, x: Tensor) -> Tensor:
        if key == "b":
            threading.Event().wait(0.05)
        ended.append(key)
        raise ValueError(f"no {key}")

    with opened_lanes():
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match="no a"):
                in_lanes(work, {"a": [torch.ones(1)], "b": [torch.ones(1)]})
            assert sorted(ended) == ["a", "b"]
            ended.clear()
        assert in_lanes(of_key, {1: [torch.ones(1)], 2: [torch.ones(1)]})[2].item() == 2.0


def test_an_error_of_a_backward_pass_is_raised() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, tensor: Tensor) -> Tensor:
            return tensor.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            raise OverflowError("on the way back")

    leaf = torch.ones(1, requires_grad=True)
    with opened_lanes():
        made = in_lanes(lambda key, x: Broken.apply(x), {"a": [leaf], "b": [leaf]})
        with pytest.raises(OverflowError, match="on the way back"):
            made["b"].sum().backward()


def test_gradients_can_be_asked_for_once() -> None:
    leaf = torch.ones(1, requires_grad=True)
    with opened_lanes():
        made = in_lanes(of_key, {1: [leaf], 2: [leaf]})
        made[1].sum().backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="twice; make it anew"):
            made[1].sum().backward()


def test_a_gradient_that_is_to_have_gradients_is_refused() -> None:
    """It would have none, so that a penalty on it would do nothing."""
    tensors = [torch.ones(1, requires_grad=True) for _ in "ab"]
    with opened_lanes():
        made = in_lanes(of_key, {2.0: [tensors[0]], 3.0: [tensors[1]]})
        with pytest.raises(RuntimeError, match="create_graph=True does not reach into"):
            torch.autograd.grad(made[2.0].square().sum(), tensors[0], create_graph=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_works_alone() -> None:
    inputs = {2.0: [torch.ones(1)], 3.0: [torch.ones(1)]}
    with opened_lanes(), torch.no_grad():
        in_lanes(of_key, inputs)
        child = os.fork()
        if child == 0:
            os._exit(int(sum(in_lanes(of_key, inputs).values())))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5


def test_lanes_that_cannot_begin_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = threading.Thread.start, []

    def refuse_the_second(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    with pytest.raises(RuntimeError, match="can't start new thread"), two_lanes():
        pass


def test_an_error_keeps_nothing_alive() -> None:
    held: list[weakref.ref[Tensor]] = []

    def fail(key: float, tensor: Tensor) -> Tensor:
        big = torch.zeros(10)
        held.append(weakref.ref(big))
        raise ValueError(f"{key}")

    gc.disable()
    try:
        with opened_lanes(), suppress(ValueError):
            in_lanes(fail, {2.0: [torch.ones(1)], 3.0: [torch.ones(1)]})
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


class TakesMaps(nn.Module):
    """Keeps what its layers give until all are through, as feature networks with hooks do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.kept: list[Tensor] = []
        for layer in self.layers:
            layer.register_forward_hook(lambda layer, given, made: self.kept.append(made))

    def forward(self, x: Tensor) -> Tensor:
        self.kept.clear()
        for layer in self.layers:
            x = layer(x)
            time.sleep(0.002)  # the other domain's turn
        first, second = self.kept
        return torch.cat([first, second], dim=1)


def test_a_feature_network_that_keeps_maps_is_asked_by_one_domain_at_a_time() -> None:
    torch.manual_seed(0)
    network = TakesMaps().requires_grad_(False)
    method = Munit(replace(TINY, weight_perceptual=1.0), features=network)
    in_turn = method.phases()[1].loss(tiny_pair())
    with opened_lanes():
        for _ in range(5):
            terms = method.phases()[1].loss(tiny_pair())
            for key in "ab":
                torch.testing.assert_close(terms[f"perceptual_{key}"], in_turn[f"perceptual_{key}"])


def test_work_within_a_lane_is_not_divided_again() -> None:
    def work(key: int, x: Tensor) -> Tensor:
        inner = in_lanes(of_key, {1: [x], 10: [x]})
        return inner[1] + inner[10] * key

    leaf = torch.ones(1, requires_grad=True)
    with opened_lanes():
        made = in_lanes(work, {1: [leaf], 2: [leaf]})
        (made[1] + made[2]).sum().backward()
    assert [made[1].item(), made[2].item()] == [11.0, 21.0]
    assert leaf.grad is not None
    assert leaf.grad.item() == 32.0


def test_lanes_that_were_never_asked_for_gradients_leave_nothing_behind() -> None:
    threads = threading.active_count()
    with opened_lanes():
        in_lanes(of_key, {1: [torch.ones(1, requires_grad=True)], 2: [torch.ones(1)]})
    assert threading.active_count() == threads


def gradients_of_a_step(method: Method, at_once: bool) -> dict[str, Tensor]:
    """Gives all terms, and the gradients of all weights, of a step without updates."""
    pair = tiny_pair(4)
    found: dict[str, Tensor] = {}
    with opened_lanes() if at_once else nullcontext():
        pair = replace(pair, shared=method.shared(pair))
        for phase in method.phases():
            for module in method.children():
                module.requires_grad_(True)
            terms = phase.loss(pair)
            found |= {f"{phase.name}/{name}": term.detach() for name, term in terms.items()}
            torch.stack(list(terms.values())).sum().backward()
            for name, parameter in method.named_parameters():
                if parameter.grad is not None:
                    found[f"{phase.name}/{name}"] = parameter.grad
                    parameter.grad = None
    return found


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("munit", "cyclegan", "semantic"))])
def test_methods_give_the_terms_and_gradients_of_one_domain_after_the_other(name: str) -> None:
    make = CASES[name].make
    at_once, one_by_one = (gradients_of_a_step(make(0, 3), each) for each in (True, False))
    assert at_once.keys() == one_by_one.keys()
    for key, expected in one_by_one.items():
        torch.testing.assert_close(at_once[key], expected, msg=key)


def trained(
    folder: Path, name: str, at_once: bool, precision: PrecisionChoice = "float32"
) -> tuple[Trainer, list[str]]:
    """Gives a finished run of a case, and the names of the threads that its losses were made in."""
    config = replace(TINY_TRAINING, max_steps=4, domains_at_once=at_once, precision=precision)
    trainer = tiny_trainer(folder, config, CASES[name].make(0, 3))
    seen: list[str] = []
    for module in trainer.method.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: seen.append(threading.current_thread().name))
    trainer.run(progress=False)
    return trainer, seen


@pytest.mark.parametrize("name", ["munit-all-terms", "cyclegan", "semantic"])
def test_a_run_at_once_has_the_same_bits_each_time_and_a_setting_leaves_it(tmp_path: Path, name: str) -> None:
    first, seen = trained(tmp_path / "first", name, True)
    again, _ = trained(tmp_path / "again", name, True)
    assert any(thread.startswith("munitaug-lane") for thread in seen)
    for one, other in zip(first.method.state_dict().values(), again.method.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    _, seen = trained(tmp_path / "one after the other", name, False)
    assert set(seen) == {threading.current_thread().name}


def test_a_run_in_lower_precision_has_the_same_bits_each_time(tmp_path: Path) -> None:
    runs = [trained(tmp_path / each, "munit-all-terms", True, precision="bfloat16")[0] for each in ("first", "again")]
    states = [trainer.method.state_dict().values() for trainer in runs]
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", "munit", True)
    config = replace(TINY_TRAINING, max_steps=4)
    stopped = tiny_trainer(tmp_path / "cut", config, CASES["munit"].make(0, 3))
    with pytest.raises(Exception, match="stopped after step 2"):
        stopped.run(should_stop=iter([False, True, False]).__next__, progress=False)
    resumed = tiny_trainer(tmp_path / "cut", config, CASES["munit"].make(0, 3)).run(resume=True, progress=False)
    for one, other in zip(whole.method.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
