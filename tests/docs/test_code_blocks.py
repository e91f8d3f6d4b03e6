"""Commands, options and calls that README and the pages show are those that there are: parsed and bound, not run."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from inspect import ismodule, signature
from pathlib import Path
from typing import Any

import pytest

import munitaug
from munitaug.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bmunitaug ((?:" + "|".join(build_parser()[1]) + r") .*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_.-]*")
ELSEWHERE = {"--nproc-per-node", "--max-restarts", "--nnodes", "--rdzv-endpoint", "--shutdown-timeout"}  # torchrun
ELSEWHERE |= {"--signal", "--requeue"}  # Slurm
ELSEWHERE |= {"--a2b", "--num_style", "--output_path"}  # the authors' programs
SKETCHES = ("design.md", "adding-a-method.md")
"""Pages whose Python is an outline, or has a test of its own."""


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for language, body in found if language in languages]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Gives the words after ``munitaug`` of every command in a block, with the page's name."""
    for page in PAGES:
        for block in blocks(page, "sh", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if found := COMMAND.search(line):
                    yield page.name, shlex.split(found[1].replace("$RESUME", "--resume").rstrip("'"), comments=True)


def option_strings() -> set[str]:
    """Gives the options of every command of munitaug and of every benchmark."""
    texts = {text for path in (ROOT / "benchmarks").glob("*.py") for text in _strings(path) if OPTION.fullmatch(text)}
    parser, names = build_parser()
    (of_command,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    for name in names:
        texts |= {text for action in of_command[name]._actions for text in action.option_strings}
    return texts


def _strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize(
    ("page", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_every_command_is_understood(page: str, words: list[str]) -> None:
    build_parser()[0].parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_the_text_is_one(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = {option.rstrip(".") for code in re.findall(r"`([^`\n]+)`", text) for option in OPTION.findall(code)}
    assert named - option_strings() - ELSEWHERE == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in SKETCHES], ids=lambda page: page.name)
def test_every_call_of_ours_takes_its_arguments(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        known = {"munitaug": munitaug} | dict(_imported(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (called := _resolved(node.func, known)) is not None:
                given = {word.arg: word for word in node.keywords if word.arg is not None}
                signature(called).bind(*node.args, **given)


def _imported(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "munitaug":
            module = pytest.importorskip(str(node.module)) if "albumentations" in str(node.module) else None
            module = module or importlib.import_module(str(node.module))
            for name in node.names:
                yield name.asname or name.name, _attribute(module, name.name)


def _attribute(module: Any, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")


def _resolved(node: ast.expr, known: dict[str, Any]) -> Any:
    """Gives what a name of ours stands for; None for names of others.

    Raises:
        AttributeError: a name of ours that there is not.
    """
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and ismodule(known.get(node.value.id)):
        return getattr(known[node.value.id], node.attr)
    return None


def test_there_is_something_to_look_at() -> None:
    assert len(list(commands())) > 15
    assert {"--semantic.weight", "--training.max_steps", "--invert-source", "--target-images"} <= option_strings()
