"""Signals become a question."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from munitaug.stopping import leave_with_parent, left_unanswered, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered_and_does_not_interrupt(number: signal.Signals) -> None:
    with stop_on_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()


def test_a_second_signal_stops_at_once() -> None:
    def send_twice() -> None:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        send_twice()


def test_a_patient_loop_takes_further_signals_for_the_first() -> None:
    with stop_on_signals(patient=True) as should_stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert should_stop()


def test_the_handlers_that_were_there_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def fail_inside() -> None:
        with stop_on_signals():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_is_set_and_the_answer_is_no() -> None:
    answers: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)

    def ask() -> None:
        with stop_on_signals() as should_stop:
            answers.append(should_stop())
            answers.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False, True]


def test_a_stop_that_came_too_late_for_a_loop_is_known_after_it() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert left_unanswered()
    with stop_on_signals():
        pass
    assert not left_unanswered()


def test_a_stop_that_was_answered_is_not_left() -> None:
    def leave() -> None:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("left")

    with pytest.raises(RuntimeError, match="left"):
        leave()
    assert not left_unanswered()


PARENT = """
import multiprocessing, os, time
from munitaug.stopping import leave_with_parent

def work(pipe):
    leave_with_parent()
    pipe.send(os.getpid())
    time.sleep(100)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=work, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(100)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")
def test_a_worker_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path("/proc") / parent.stdout.readline().strip()
        assert worker.exists()
        parent.kill()
        deadline = time.monotonic() + 20
        while worker.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not worker.exists()


def test_a_process_without_a_parent_of_its_kind_goes_on() -> None:
    before = threading.active_count()
    leave_with_parent()
    assert threading.active_count() == before
