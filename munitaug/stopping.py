"""Ctrl-C, SIGTERM and SIGUSR1 as a question that a loop asks, so that it can save and leave cleanly.

Workers that leave with their parent, too.

Floor 1: imports the standard library only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # the last is what batch systems such as Slurm send before the time is over; Windows has none


_left_unanswered = False


@contextmanager
def stop_on_signals(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Gives a function that answers whether a stop was asked for; a second signal stops at once.

    Handlers are set for SIGINT, SIGTERM and SIGUSR1 and put back on leaving. Outside the main thread, where Python
    cannot set handlers, the answer is always no.

    Args:
        patient: further signals change nothing. A launcher passes on the Ctrl-C that its processes had from the
            terminal already, and kills those that take too long.
    """
    global _left_unanswered
    _left_unanswered = asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal asked
        if asked and not patient:
            raise KeyboardInterrupt(signal.Signals(number).name)
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield lambda: asked
        _left_unanswered = asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def left_unanswered() -> bool:
    """Tells whether a stop was asked for in the last :func:`stop_on_signals`, whose block came to its end all the same.

    A loop that was at its last step has nothing to leave, but what comes after it in a longer recipe should not begin.
    """
    return _left_unanswered


def leave_group() -> None:
    """Takes this process out of its parent's group, whose signals would end it before the parent has answered them.

    A terminal's Ctrl-C goes to a whole group of processes, and so do the signals of batch systems and of torchrun. For
    the start of a worker of multiprocessing; anywhere else, and on Windows, it does nothing.
    """
    if multiprocessing.parent_process() is not None and hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def leave_with_parent() -> None:
    """Makes this process end when the one that started it is gone, killed perhaps; it would work or wait for nobody.

    For the start of a worker of multiprocessing; anywhere else it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="munitaug-parent", daemon=True).start()
