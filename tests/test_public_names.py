"""The public names: few, sorted, documented, and light to import."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
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
    for name in munitaug.__all__:
        assert getattr(munitaug, name) is not None
    lazily = {"Any", "find_spec", "import_module"}
    present = {
        name for name, value in vars(munitaug).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert (present - lazily) | {"__version__"} == set(munitaug.__all__)


def test_type_checkers_read_of_the_same_names() -> None:
    stub = ast.parse(Path(munitaug.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    read: dict[str, str] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            for alias in node.names:
                renamed = "" if alias.name == alias.asname else f":{alias.name}"
                read[str(alias.asname)] = node.module.removeprefix("munitaug.") + renamed
    assert read == vars(munitaug)["_HOMES"]
    (named,) = (node.value for node in stub.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(named) == munitaug.__all__


def test_no_name_is_taken_for_the_module_it_comes_from() -> None:
    """As readers of the source do, the reference among them, where a package holds a module of that name."""
    for name, home in vars(munitaug)["_HOMES"].items():
        package = Path(munitaug.__file__).parent / home.partition(":")[0].replace(".", "/")
        assert not (package / f"{name}.py").exists(), name


def test_a_name_that_is_not_there_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'munitaug' has no attribute 'translate'"):
        munitaug.translate  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(munitaug, "_translate")


def test_modules_are_there_without_an_import() -> None:
    assert munitaug.adaptation.adapt is not None
    assert {"adapt", "load", "_HOMES"} <= set(dir(munitaug))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import sys, munitaug; munitaug.__version__; print(sorted({'torch', 'numpy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_starts_without_torch_s_compiler() -> None:
    """torchvision's models bring it along, and with it a second and a half of a core."""
    code = "import sys; from munitaug.cli import build_parser; build_parser(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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
    code = f"import sys; from munitaug import *; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
