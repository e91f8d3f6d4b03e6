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

from munitaug.recipes import SemanticOptions, train
from tests.runs import TINY_FIT, TINY_GREY, TINY_TRAINING, toy_domain

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

    train(
        toy_domain("source"),
        toy_domain("target", seed=1, labelled=False),
        Path(arguments[0]),
        config=TINY_GREY,
        training=replace(TINY_TRAINING, max_steps=30 if "--pause" in arguments else 8),
        semantic=SemanticOptions(1.0, TINY_FIT),
        resume="--resume" in arguments,
        progress=False,
        on_step=after,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
