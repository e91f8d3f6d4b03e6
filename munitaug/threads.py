"""Two threads with short queues: one that works ahead of the caller, one that works behind it.

Floor 1: imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, Self, TypeVar, final

Item = TypeVar("Item")
_LOOK_UP_SECONDS = 0.1


class Dropped(Exception):
    """Nobody wants the rest of the items any more."""


class _End:
    """Stands in a queue after the last item, with what ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Gives the items in order; a thread makes them, at most ``depth`` more than were asked for.

    What the thread raises is raised here, after the items before it. Closing the iterator ends the thread.
    """
    queue: Queue[Item | _End] = Queue(depth)
    is_closed = Event()

    def run() -> None:
        end = _End()
        try:
            for item in items:
                if not _put(queue, item, is_closed):
                    return
        except BaseException as error:
            end = _End(error)
        _put(queue, end, is_closed)

    thread = Thread(target=run, name="munitaug-reader", daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        is_closed.set()
        thread.join()


@final
class Behind(Generic[Item]):
    """Hands items to a thread; used in a ``with`` block, which waits for the thread, or ends its work on an error.

    Args:
        work: is given the items in the thread. It may end before they do; where they are given up half way, asking
            for the next one raises :class:`Dropped` in it.
        depth: items that may wait; with more :meth:`put` waits itself.
    """

    def __init__(self, work: Callable[[Iterator[Item]], None], depth: int) -> None:
        self._queue: Queue[Item | _End] = Queue(depth)
        self._is_over = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(work,), name="munitaug-writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hands an item over.

        Raises:
            BaseException: what the thread raised.
        """
        if not _put(self._queue, item, self._is_over):
            self.finish()

    def finish(self) -> None:
        """Waits until the thread has worked off all items.

        Raises:
            BaseException: what the thread raised.
        """
        _put(self._queue, _End(), self._is_over)
        self._thread.join()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.finish()
        self._is_over.set()
        self._thread.join()

    def _run(self, work: Callable[[Iterator[Item]], None]) -> None:
        try:
            work(self._items())
        except Dropped:
            pass
        except BaseException as error:
            self._error = error
        self._is_over.set()

    def _items(self) -> Iterator[Item]:
        while not self._is_over.is_set():
            with suppress(Empty):
                item = self._queue.get(timeout=_LOOK_UP_SECONDS)
                if isinstance(item, _End):
                    return
                yield item
        raise Dropped


def _put(queue: Queue[Item | _End], item: Item | _End, is_closed: Event) -> bool:
    """Waits for room; tells whether there was any before the other side closed."""
    while not is_closed.is_set():
        with suppress(Full):
            queue.put(item, timeout=_LOOK_UP_SECONDS)
            return True
    return False
