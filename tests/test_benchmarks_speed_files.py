"""The file part of the speed benchmark: a line per subject, with the names that the claims are kept under."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed_files


@pytest.mark.parametrize(("subject", "name"), [("generate", "generate-vs-bare"), ("read", "read-vs-h5py")])
def test_a_line_is_written_with_its_circumstances(tmp_path: Path, subject: str, name: str) -> None:
    out = tmp_path / "results" / "speed.jsonl"
    settings = {"size": 16, "images": 6, "variants": 2, "batch-size": 3, "repeats": 2, "threads": 1}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    speed_files.main([subject, *words, "--out", str(out)])
    (line,) = [json.loads(text) for text in out.read_text(encoding="utf-8").splitlines()]
    assert (line["name"], line["images"], line["size"], line["compression"]) == (name, 12, 16, "lzf")
    assert line["ratio"] > 0
    assert line["images_per_second"] > 0
    assert line["command"].startswith(f"python -m benchmarks.speed_files {subject} --size 16")
    assert all(line[key] for key in ("device", "torch", "commit", "date"))
