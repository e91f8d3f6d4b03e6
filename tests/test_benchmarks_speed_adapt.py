"""The time until a classifier is good enough is that of the first one kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed_adapt
from benchmarks.speed_adapt import Kept, main


def test_the_first_good_classifier_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [Kept(40.0, 94.9), Kept(50.0, 95.0), Kept(60.0, 94.0), Kept(90.0, 97.0)]
    monkeypatch.setattr(speed_adapt, "run", lambda options, folder: kept)
    out = tmp_path / "out" / "speed.jsonl"
    main(["--data-root", "data", "--limit", "100", "--out", str(out)])
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["name"], row["seconds"], row["ratio"], row["seconds_whole"]) == ("adapt-to-95", 50.0, 2.0, 90.0)
    assert {"device", "commit", "date", "command", "accuracies"} <= row.keys()
    assert "95% after 50 s" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no classifier reached 98%"):
        main(["--data-root", "data", "--accuracy", "98", "--out", str(out)])
    assert len(out.read_text().splitlines()) == 1
