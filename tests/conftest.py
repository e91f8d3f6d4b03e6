"""What every test runs under: no network look-ups, no display, one thread.

One thread, because a forked DataLoader worker hangs after its parent ran multi-threaded OpenMP code, and because
sums then come out in the same order in each test process. Processes that tests start inherit it.
"""

from __future__ import annotations

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import torch

torch.set_num_threads(1)
