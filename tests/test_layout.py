"""The way of the data goes one way: what may import what, and what start-up may not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lungbox"

# From the first room of the way to the last; a module imports only its own room and those above.
# docs/architecture.md describes each.
ROOMS = [
    ["constants", "errors"],
    ["common"],
    ["boxes"],
    ["findings"],
    ["radiograph"],
    ["submission"],
    ["datasets"],
    ["metrics"],
    ["architecture"],
    ["weights"],
    ["engines"],
    ["inference"],
    ["export"],
    ["evaluation"],
    ["quantization"],
    ["training"],
    ["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def modules():
    return [
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or "__" not in path.name
    ]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lungbox"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            yield from (name for name in names if name in LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_only_backwards(path):
    assert room_of(path) in LEVEL, f"{path.name} is in no room; give it one"
    for room in imported_rooms(path):
        assert LEVEL[room] <= LEVEL[room_of(path)], f"{path.name} imports {room}, which is later"


def test_tensorflow_is_named_only_where_it_may_be():
    allowed = {
        "engines/openvino.py",
        "export/convert.py",
        "export/runtimes.py",
        "training/devices.py",
    }
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(a.name == "tensorflow" for a in node.names)
    }
    assert naming <= allowed


def test_prediction_does_not_import_pandas():
    code = (
        "import sys, lungbox.cli.main, lungbox.inference.run, lungbox.datasets\n"
        "print('pandas' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert printed.stdout.strip() == "False"


@pytest.mark.parametrize(
    "code",
    [
        "import lungbox",
        "import inference, train, architecture, metrics, constants",
        "from lungbox.cli.main import app; import typer.testing as t; "
        "assert t.CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
)
def test_start_up_imports_no_framework(code):
    check = f"{code}; import sys; print({{'keras', 'tensorflow', 'openvino'}} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    assert printed.stdout.strip() == "set()"
