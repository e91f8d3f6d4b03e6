"""Rows are added at the end of a file, one line each, and read again."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.storing import append_row, read_rows


def test_rows_stand_below_one_another_in_a_folder_made_for_them(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"name": "ä\n", "ratio": 1.5}, {"name": "b"}]
    for row in rows:
        append_row(tmp_path / "new" / "speed.jsonl", row)
    lines = (tmp_path / "new" / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows


def test_rows_come_back_and_no_file_holds_none(tmp_path: Path) -> None:
    (tmp_path / "speed.jsonl").write_text('{"name": "ä"}\n{"name": "b", "ratio": 2}\n', encoding="utf-8")
    assert read_rows(tmp_path / "speed.jsonl") == [{"name": "ä"}, {"name": "b", "ratio": 2}]
    assert read_rows(tmp_path / "nowhere.jsonl") == []
