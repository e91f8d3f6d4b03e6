"""A tiny run of the whole recipe for torchrun: FOLDER [--resume] [--kill] [--pause].

--kill: rank 1 kills itself after step 3, rank 0 after step 6 when torchrun has started them again, both at step 7 then.
--pause: steps take a moment.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from tests.runs import TINY_TRAINING, train_tiny

DEATHS = {("0", "1"): 3, ("1", "0"): 6, ("2", "0"): 7, ("2", "1"): 7}
"""(restarts, rank) -> step."""


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    place = (os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("RANK", "0"))

    def after(step: int, terms: dict[str, float]) -> None:
        if "--pause" in arguments:
            time.sleep(0.1)
        if "--kill" in arguments and DEATHS.get(place) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    training = replace(TINY_TRAINING, max_steps=30 if "--pause" in arguments else 8)
    train_tiny(Path(arguments[0]), training, resume="--resume" in arguments, on_step=after)


if __name__ == "__main__":
    main(sys.argv[1:])
