"""The walls of the house: core does no I/O and knows jiffy's core only; arrows between the parts go one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jiffy

ROOT = Path(jiffy.__file__).parent
ALLOWED_IN_CORE = {
    "__future__",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "calendar",
    "datetime",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "pydantic",
    "typing",
}
LEVELS = {"cli": 4, "server": 3, "worker": 3, "core": 2, "image": 2, "fs": 2, "runtime": 2, "store": 1, "objects": 1}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=lambda path: path.name)
def test_core_decides_without_input_or_output(path: Path) -> None:
    for name in imports(path):
        own = name.startswith("jiffy.core") or name == "jiffy.errors"
        assert own or name.partition(".")[0] in ALLOWED_IN_CORE, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_one_way(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        target = name.split(".")[1] if name.startswith("jiffy.") else ""
        if part not in LEVELS or target not in LEVELS or target == part:
            continue
        if part == "store" and target == "core":
            continue  # the store records what happened in the words of core's events
        assert LEVELS[target] < LEVELS[part] or (LEVELS[part] == 2 and target != "core" and part != "core"), (
            f"{part} imports {name}"
        )
