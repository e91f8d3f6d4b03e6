"""A tiny run in a process of its own, for tests that kill it: FOLDER MAX_STEPS [--resume] [--signal NUMBER STEP]."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from munitaug.stopping import stop_on_signals
from tests.tiny import TINY_TRAINING, tiny_trainer


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    folder, max_steps = Path(arguments[0]), int(arguments[1])
    number, when = (int(value) for value in arguments[-2:]) if "--signal" in arguments else (0, -1)

    def signal_myself(step: int, terms: dict[str, float]) -> None:
        if step == when:
            os.kill(os.getpid(), number)

    trainer = tiny_trainer(folder, replace(TINY_TRAINING, max_steps=max_steps, save_every_steps=3))
    with stop_on_signals() as should_stop:
        trainer.run("--resume" in arguments, on_step=signal_myself, should_stop=should_stop, progress=False)


if __name__ == "__main__":
    main(sys.argv[1:])
