"""What pyproject.toml promises: the oldest versions are those that are tested, and messages name extras that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_oldest_versions_of_the_core_are_tested() -> None:
    promised = dict(re.findall(r"^(\w+)(?:\[\w+\])?>=([\d.]+)$", "\n".join(PROJECT["dependencies"]), re.MULTILINE))
    lines = (ROOT / ".github" / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.removesuffix(".*").split("==") for line in lines if not line.startswith("#"))
    assert len(promised) == len(PROJECT["dependencies"])
    assert tested == promised


def test_every_extra_that_a_message_names_exists() -> None:
    named = {
        extra
        for folder in ("munitaug", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
        for group in re.findall(r"munitaug\[([\w,]+)\]", file.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert "benchmarks" in named
    assert named <= PROJECT["optional-dependencies"].keys()
