"""The floors of docs/design.md, read from the code: who may import whom, and a few rules that keep it readable.

Each rule is a function from source files to complaints. Every rule is run on munitaug/, where it must find
nothing, and on a small made-up package with one fault, which it must find.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "munitaug"

FLOORS: dict[str, int] = {
    "_version": 1, "types": 1, "random": 1, "images": 1, "losses": 1, "files": 1, "stopping": 1, "ranks": 1,
    "threads": 1, "lanes": 1, "settings": 1, "default_device": 1, "networks": 1,
    "translator": 2, "styles": 2, "data": 2, "tensor_files": 2,
    "method": 3, "kernel": 3, "metrics": 3,
    "methods": 4, "training": 4, "offline": 4, "adaptation": 4,
    "checkpoint": 5, "interop": 5,
    "recipes": 6, "transforms": 6,
    "__init__": 7,
    "cli": 8,
}  # fmt: skip
WINGS = ("methods", "training", "offline", "adaptation")
PUBLIC_DOORS = (
    PACKAGE,
    f"{PACKAGE}.types",
    f"{PACKAGE}.random",
    f"{PACKAGE}.stopping",
    f"{PACKAGE}.data",
    f"{PACKAGE}.adaptation",
    f"{PACKAGE}.transforms.albumentations",
)
CORE_PACKAGES = {"torch", "torchvision", "numpy", "PIL", "h5py", "safetensors", "tqdm", "jsonargparse"}
OPTIONAL_SUBMODULES = ("torch.utils.tensorboard",)
NEEDED_AT_IMPORT = {("transforms/albumentations.py", "albumentations")}
LONGEST_FUNCTION_LINES = 60
MODEL_RANGE_FACTORS = (127.5,)
BYTE_FACTORS = (255, 255.0, 255.999, 256.0)


@dataclass(frozen=True)
class SourceFile:
    """One parsed file; ``path`` is relative to the package, ``module`` its dotted name."""

    path: str
    module: str
    tree: ast.Module

    @property
    def room(self) -> str:
        first = self.path.split("/")[0].removesuffix(".py")
        return "cli" if first == "__main__" else first

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


@dataclass(frozen=True)
class Import:
    """One imported module, dotted, and whether importing the file runs it."""

    target: str
    line: int
    at_module_level: bool


Rule = Callable[[list[SourceFile]], list[str]]


def read_package(folder: Path) -> list[SourceFile]:
    files = []
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        parts = relative.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        files.append(
            SourceFile(
                relative.as_posix(), ".".join((folder.name, *parts)), ast.parse(path.read_text(encoding="utf-8"))
            )
        )
    return files


def nodes_with_depth(node: ast.AST, inside_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Gives every node below ``node`` and whether it stands inside a function."""
    for child in ast.iter_child_nodes(node):
        yield child, inside_function
        deeper = inside_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from nodes_with_depth(child, deeper)


def imports_of(file: SourceFile, modules: set[str]) -> list[Import]:
    """Gives the imports of a file, ``from x import y`` as x.y where y is a module of the package."""
    found = []
    for node, inside in nodes_with_depth(file.tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, not inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(file, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append(Import(full if full in modules else base, node.lineno, not inside))
    return list(dict.fromkeys(found))


def absolute_base(file: SourceFile, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parents = file.module.split(".")
    kept = parents[: len(parents) - node.level + (1 if file.is_package else 0)]
    return ".".join([*kept, node.module] if node.module else kept)


def imports_within(files: list[SourceFile]) -> Iterator[tuple[SourceFile, Import, str]]:
    """Gives each import of the package's own modules, with the room that is imported."""
    modules = {file.module for file in files}
    for file in files:
        for item in imports_of(file, modules):
            if item.target.split(".")[0] == PACKAGE:
                parts = item.target.split(".")
                yield file, item, parts[1] if len(parts) > 1 else "__init__"


def files_without_floor(files: list[SourceFile]) -> list[str]:
    return [f"{file.path}: room {file.room!r} is on no floor" for file in files if file.room not in FLOORS]


def imports_that_climb(files: list[SourceFile]) -> list[str]:
    complaints = []
    for file, item, room in imports_within(files):
        if file.room == room or file.room not in FLOORS:
            continue
        if FLOORS.get(room, 99) >= FLOORS[file.room]:
            complaints.append(
                f"{file.path}:{item.line}: floor {FLOORS[file.room]} imports {item.target} of floor {FLOORS.get(room)}"
            )
    return complaints


def wings_that_see_each_other(files: list[SourceFile]) -> list[str]:
    return [
        f"{file.path}:{item.line}: wing {file.room} sees wing {room}"
        for file, item, room in imports_within(files)
        if file.room in WINGS and room in WINGS and file.room != room
    ]


def back_doors(files: list[SourceFile]) -> list[str]:
    """Floor 8 uses public names only."""
    return [
        f"{file.path}:{item.line}: imports {item.target}; use a public name of munitaug"
        for file, item, room in imports_within(files)
        if FLOORS.get(file.room) == FLOORS["cli"] and room != file.room and item.target not in PUBLIC_DOORS
    ]


def import_circles(files: list[SourceFile]) -> list[str]:
    """Modules that lead back to themselves through imports that run when the file is imported."""
    arrows: dict[str, set[str]] = {file.module: set() for file in files}
    for file, item, _ in imports_within(files):
        if item.at_module_level and item.target in arrows:
            arrows[file.module].add(item.target)
    return [f"{module} imports itself by way of others" for module in arrows if module in reachable(module, arrows)]


def reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += arrows[module]
    return seen


def undeclared_packages(files: list[SourceFile]) -> list[str]:
    """Importing munitaug needs the core dependencies alone; optional packages are imported where they are used."""
    complaints = []
    for file in files:
        for item in imports_of(file, set()):
            top = item.target.split(".")[0]
            optional = item.target.startswith(OPTIONAL_SUBMODULES)
            known = top in CORE_PACKAGES or top == PACKAGE or top in sys.stdlib_module_names
            allowed = not item.at_module_level or (known and not optional) or (file.path, top) in NEEDED_AT_IMPORT
            if not allowed:
                complaints.append(f"{file.path}:{item.line}: imports {item.target} at module level")
    return complaints


def range_conversions_elsewhere(files: list[SourceFile]) -> list[str]:
    """Only images.py knows the model's range; readers in data/ may bring a file's own range to bytes."""
    complaints = []
    for file in files:
        if file.path == "images.py":
            continue
        banned = MODEL_RANGE_FACTORS if file.room == "data" else (*MODEL_RANGE_FACTORS, *BYTE_FACTORS)
        for node in ast.walk(file.tree):
            complaints += [
                f"{file.path}:{factor.lineno}: converts a value range by {factor.value!r}; call images.py"
                for factor in factors_of(node)
                if factor.value in banned
            ]
    return complaints


def factors_of(node: ast.AST) -> list[ast.Constant]:
    """Gives the number constants that a node multiplies or divides by."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Mult | ast.Div):
        operands = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        is_factor = node.func.attr.rstrip("_") in ("mul", "div", "multiply", "divide", "true_divide")
        operands = list(node.args) if is_factor else []
    else:
        operands = []
    return [item for item in operands if isinstance(item, ast.Constant) and isinstance(item.value, int | float)]


def headings_that_mislead(files: list[SourceFile]) -> list[str]:
    """A file opens by saying what lives in it and on which floor it is; an ``__init__`` need not name the floor."""
    complaints = []
    for file in files:
        heading = ast.get_docstring(file.tree) or ""
        floor = f"Floor {FLOORS.get(file.room)}"
        if not heading:
            complaints.append(f"{file.path}: has no docstring")
        elif ("Floor " in heading or not file.is_package) and not any(
            line.startswith((f"{floor}:", f"{floor}.")) for line in heading.splitlines()
        ):
            complaints.append(f"{file.path}: its docstring should have a line that begins '{floor}: imports ...'")
    return complaints


def long_functions(files: list[SourceFile]) -> list[str]:
    """Counts from ``def`` to the last line, without the docstring."""
    complaints = []
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = lines_spanned(node) - docstring_lines(node)
                if lines > LONGEST_FUNCTION_LINES:
                    complaints.append(f"{file.path}:{node.lineno}: {node.name} has {lines} lines")
    return complaints


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return lines_spanned(node.body[0]) if ast.get_docstring(node) is not None else 0


def lines_spanned(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


LONG_BODY = "def f() -> None:\n" + "    pass\n" * LONGEST_FUNCTION_LINES
FAULTS: list[tuple[Rule, dict[str, str], str]] = [
    (files_without_floor, {"cellar.py": ""}, "cellar.py: room 'cellar' is on no floor"),
    (imports_that_climb, {"losses.py": "from munitaug.method import Phase"}, "losses.py:1: floor 1 imports"),
    (imports_that_climb, {"losses.py": "def f():\n    import munitaug.method"}, "losses.py:2: floor 1 imports"),
    (imports_that_climb, {"losses.py": "from munitaug import images", "images.py": ""}, "floor 1 imports"),
    (imports_that_climb, {"data/folder.py": "from ..styles import x", "styles.py": ""}, "floor 2 imports"),
    (imports_that_climb, {"checkpoint.py": "from munitaug import __version__"}, "munitaug of floor 7"),
    (imports_that_climb, {"losses.py": "import munitaug.cellar"}, "floor None"),
    (wings_that_see_each_other, {"training/loop.py": "from munitaug.methods.munit import M"}, "wing training sees"),
    (back_doors, {"cli.py": "from munitaug.training.loop import fit"}, "imports munitaug.training.loop"),
    (back_doors, {"cli.py": "import munitaug.styles"}, "imports munitaug.styles"),
    (import_circles, {"data/a.py": "import munitaug.data.b", "data/b.py": "from . import a"}, "munitaug.data.a"),
    (import_circles, {"data/__init__.py": "from .a import x", "data/a.py": "from munitaug.data import y"}, "data"),
    (undeclared_packages, {"styles.py": "import sklearn.mixture"}, "styles.py:1: imports sklearn.mixture"),
    (undeclared_packages, {"styles.py": "try:\n    import timm\nexcept ImportError:\n    pass"}, "styles.py:2"),
    (undeclared_packages, {"training/log.py": "from torch.utils.tensorboard import SummaryWriter"}, "tensorboard"),
    (range_conversions_elsewhere, {"kernel.py": "y = x / 255"}, "kernel.py:1: converts a value range by 255"),
    (range_conversions_elsewhere, {"kernel.py": "x *= 255.0"}, "kernel.py:1"),
    (range_conversions_elsewhere, {"data/a.py": "y = x.div_(127.5)"}, "data/a.py:1"),
    (headings_that_mislead, {"losses.py": ""}, "losses.py: has no docstring"),
    (headings_that_mislead, {"losses.py": '"""Losses.\n\nFloor 2: imports torch.\n"""'}, "begins 'Floor 1:"),
    (headings_that_mislead, {"losses.py": '"""Losses."""'}, "begins 'Floor 1:"),
    (long_functions, {"losses.py": LONG_BODY}, "losses.py:1: f has 61 lines"),
]

SOUND: dict[str, str] = {
    "__init__.py": '"""Public names.\n\nFloor 7: imports the floors below."""\nfrom munitaug.kernel import f as f',
    "__main__.py": '"""Entry.\n\nFloor 8: imports cli."""\nfrom munitaug.cli import main',
    "cli.py": '"""Commands.\n\nFloor 8: public names."""\nfrom munitaug import f\nfrom munitaug.types import Pair',
    "types.py": '"""Words.\n\nFloor 1: imports torch."""\nimport torch\nimport dataclasses',
    "images.py": '"""Ranges.\n\nFloor 1: imports torch."""\ndef f(x):\n    return x / 127.5',
    "data/__init__.py": '"""Domains."""\nfrom .folder import g as g',
    "data/folder.py": '"""Folders.\n\nFloor 2: types."""\nfrom munitaug.types import Pair\ny = 3 * 255',
    "kernel.py": '"""Kernel.\n\nFloor 3: imports images."""\nfrom munitaug.images import f\n'
    "def late():\n    import sklearn\nWHITE = [255]",
    "transforms/albumentations.py": '"""Adapter.\n\nFloor 6: imports kernel."""\nimport albumentations',
}
RULES: list[Rule] = list(dict.fromkeys(rule for rule, _, _ in FAULTS))


def write_package(folder: Path, sources: dict[str, str]) -> list[SourceFile]:
    for name, source in sources.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return read_package(folder / PACKAGE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_munitaug_keeps_the_rule(rule: Rule) -> None:
    complaints = rule(read_package(ROOT / PACKAGE))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("rule", "sources", "complaint"), FAULTS, ids=[f"{rule.__name__}-{n}" for n, (rule, _, _) in enumerate(FAULTS)]
)
def test_a_rule_finds_a_fault(rule: Rule, sources: dict[str, str], complaint: str, tmp_path: Path) -> None:
    assert complaint in "\n".join(rule(write_package(tmp_path, sources)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_package_gives_no_complaint(rule: Rule, tmp_path: Path) -> None:
    assert rule(write_package(tmp_path, SOUND)) == []


def test_the_package_is_found() -> None:
    assert {"types.py", "networks/blocks.py"} <= {file.path for file in read_package(ROOT / PACKAGE)}


def test_benchmarks_use_public_names_only() -> None:
    complaints = []
    for file in read_package(ROOT / "benchmarks"):
        inner = [item for item in imports_of(file, set()) if item.target.split(".")[0] == PACKAGE]
        complaints += [f"{file.path}:{item.line}: {item.target}" for item in inner if item.target not in PUBLIC_DOORS]
    assert not complaints


def test_docs_name_every_room_on_its_floor() -> None:
    rows = [
        line for line in (ROOT / "docs" / "design.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")
    ]
    table = {int(line.split("|")[1]): line.split("|")[2] for line in rows if line.split("|")[1].strip().isdigit()}
    missing = [
        (room, floor)
        for room, floor in FLOORS.items()
        if f"`{room}.py`" not in table[floor] and f"`{room}/`" not in table[floor]
    ]
    assert not missing
