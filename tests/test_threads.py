"""The threads ahead of and behind the translator: order, bounds, errors, and that none is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from munitaug.threads import Behind, Dropped, ahead


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_items_come_in_order() -> None:
    assert list(ahead(range(50), 3)) == list(range(50))


def test_no_more_than_depth_items_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(30):
            made.append(number)
            yield number

    for number in ahead(items(), 2):
        time.sleep(0.002)
        assert len(made) <= number + 1 + 2 + 1  # those taken, those waiting, the one in the thread's hand
    assert len(made) == 30


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    seen: list[int] = []
    with pytest.raises(OSError, match="no more"):
        seen.extend(ahead(items(), 2))
    reader = ahead(items(), 2)
    assert next(reader) == 1
    reader.close()


def test_closing_ends_a_thread_that_waits_for_room() -> None:
    reader = ahead(iter(int, 1), 2)  # zeros without end
    assert next(reader) == 0
    reader.close()


def test_all_items_are_worked_off_in_order() -> None:
    done: list[int] = []
    with Behind[int](lambda items: done.extend(items), 2) as behind:
        for number in range(20):
            behind.put(number)
    assert done == list(range(20))


def test_the_error_of_the_thread_reaches_the_caller() -> None:
    def work(items: Iterator[int]) -> None:
        for number in items:
            if number == 3:
                raise OSError("full")

    def hand_over() -> None:
        with Behind[int](work, 1) as behind:
            for number in range(1000):
                behind.put(number)

    with pytest.raises(OSError, match="full"):
        hand_over()


def test_the_error_of_the_last_item_is_not_lost() -> None:
    def work(items: Iterator[int]) -> None:
        next(items)
        raise OSError("full")

    with pytest.raises(OSError, match="full"), Behind[int](work, 5) as behind:
        behind.put(1)


def test_an_error_of_the_caller_lets_the_thread_give_up() -> None:
    ended: list[str] = []

    def work(items: Iterator[int]) -> None:
        try:
            for _ in items:
                time.sleep(0.01)
        except Dropped:
            ended.append("dropped")
            raise

    def hand_over() -> None:
        with Behind[int](work, 3) as behind:
            behind.put(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hand_over()
    assert ended == ["dropped"]


def test_finish_waits_and_may_be_called_twice() -> None:
    done: list[int] = []

    def work(items: Iterator[int]) -> None:
        for number in items:
            time.sleep(0.01)
            done.append(number)

    with Behind[int](work, 3) as behind:
        for number in range(3):
            behind.put(number)
        behind.finish()
        assert done == [0, 1, 2]
