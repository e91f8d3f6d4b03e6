"""log.jsonl, sample grids and TensorBoard events."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from munitaug.methods import Munit
from munitaug.training.records import RunLog, save_sample_grid
from tests.tiny import TINY


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_each_write_is_a_line_that_is_there_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run" / "log.jsonl", 0, None)
    log.write(1, {"generator/gan_a": 0.5})
    assert json.loads(log.path.read_text()) == {"step": 1, "generator/gan_a": 0.5}
    log.close()


def test_a_resumed_run_drops_later_lines_and_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"step": {step}, "x": 1.0}}\n' for step in (2, 4, 6, 8)) + '{"step": 10, "x')
    log = RunLog(path, 4, None)
    log.write(6, {"x": 2.0})
    log.close()
    assert steps_in(path) == [2, 4, 6]


def test_a_line_cut_before_its_end_of_line_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    log = RunLog(path, 2, None)
    log.write(3, {})
    log.close()
    assert steps_in(path) == [1, 2, 3]


def test_events_hold_every_value(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path / "log.jsonl", 0, tmp_path / "tensorboard")
    log.write(1, {"generator/gan_a": 0.5})
    log.write(2, {"generator/gan_a": 0.25})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("generator/gan_a")] == [(1, 0.5), (2, 0.25)]


def test_a_missing_tensorboard_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "munitaug\[tensorboard\]"'):
        RunLog(tmp_path / "log.jsonl", 0, tmp_path / "tensorboard")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_sample_grid_has_rows_of_originals_translations_and_targets(tmp_path: Path, channels: int, mode: str) -> None:
    method = Munit(replace(TINY, channels=channels))
    a, b = torch.full((5, channels, 16, 16), -1.0), torch.full((5, channels, 16, 16), 1.0)
    path = tmp_path / "samples" / "grid.png"
    save_sample_grid(path, method, a, b, variants=4)
    image = Image.open(path)
    side, gap = 3 * 16, 2  # 16 px images are drawn three times as large
    assert image.mode == mode
    assert image.size == (5 * (side + gap) + gap, 6 * (side + gap) + gap)
    pixels = np.asarray(image)
    assert (pixels[gap : gap + side, gap : gap + side] == 0).all()
    assert (pixels[-gap - side : -gap, gap : gap + side] == 255).all()
    assert 0 < pixels[2 * gap + side + side // 2, gap + side // 2].mean() < 255


def test_the_styles_of_sample_grids_are_the_same_at_every_step(tmp_path: Path) -> None:
    method = Munit(TINY)
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    for name in ("1.png", "2.png"):
        save_sample_grid(tmp_path / name, method, a, b)
        torch.rand(3)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"1.png", "2.png"}


def test_lines_that_a_power_cut_spoilt_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    spoilt = b"\x00" * 40 + b'\n"step": 2}\n{"step": {}}\n[3}\n\xff\xfe}\n{"stap": 3}\n'
    path.write_bytes(b'{"step": 1}\n' + spoilt + b'{"step": 4}\n')
    RunLog(path, 9, None).close()
    assert steps_in(path) == [1, 4]
