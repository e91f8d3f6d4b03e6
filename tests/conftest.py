"""What every test runs under: no network look-ups, no display, one thread.

One thread, because a forked DataLoader worker hangs after its parent ran multi-threaded OpenMP code, and because
sums then come out in the same order in each test process. Processes that tests start inherit it.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch

from tests import elsewhere

torch.set_num_threads(1)
torch.backends.cudnn.allow_tf32 = False  # a GPU's numbers are compared with the CPU's
if elsewhere.PRETENDED:
    elsewhere.prepare()


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Lets tests that draw without a generator of their own repeat."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives the folder of a finished run of a tiny one-channel MUNIT, with a semantic term; not to be changed."""
    from tests.runs import train_tiny

    folder = tmp_path_factory.mktemp("tiny") / "run"
    train_tiny(folder)
    return folder
