"""``munitaug`` and ``python -m munitaug``: the command line.

It takes seconds to import torch, and Ctrl-C is heard in that time, too.

Floor 8: uses public names only.
"""

import os
import signal
from types import FrameType

EXIT_INTERRUPTED = 130


def main() -> None:
    """Runs the command line."""
    usual = signal.signal(signal.SIGINT, _leave)
    from munitaug import cli

    signal.signal(signal.SIGINT, usual)
    cli.main()


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: an exception out of an import may end in a crash, and nothing has begun yet."""
    del number, frame
    os.write(2, b"munitaug: error: stopped\n")
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
