"""The public names: few, sorted, documented, and light to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import munitaug

OPTIONAL = ("albumentations", "matplotlib", "pyarrow", "ray", "scipy", "sklearn", "tensorboard", "timm")


def kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by the alphabet."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


def test_names_are_sorted() -> None:
    assert munitaug.__all__ == sorted(munitaug.__all__, key=kind)


def test_names_are_all_there_are() -> None:
    present = {
        name for name, value in vars(munitaug).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert present | {"__version__"} == set(munitaug.__all__)


def test_names_are_few() -> None:
    assert len(munitaug.__all__) <= 69


@pytest.mark.parametrize("name", munitaug.__all__)
def test_every_class_and_function_says_what_it_is(name: str) -> None:
    value = getattr(munitaug, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    text = value.__doc__
    assert text is not None
    assert text.splitlines()[0].rstrip().endswith((".", "?"))
    if inspect.isfunction(value):
        assert "Args:" in text
        assert value.__annotations__["return"] is not None


@pytest.mark.parametrize("name", [name for name in munitaug.__all__ if inspect.isclass(getattr(munitaug, name))])
def test_every_public_method_says_what_it_does(name: str) -> None:
    own = vars(getattr(munitaug, name))
    silent = [
        key for key, value in own.items() if inspect.isfunction(value) and not key.startswith("_") and not value.__doc__
    ]
    assert silent == []


def test_optional_packages_are_not_imported() -> None:
    code = f"import sys, munitaug; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
