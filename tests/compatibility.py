"""`python -m tests.compatibility`: the part of docs/COMPATIBILITY.md that follows from the tests and the server.

What works is what the programs of tests/programs show: each has the name of a behaviour. Which RPCs are answered follows
from the server's nouns.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import jiffy.server
from jiffy.server.service import METHODS

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "COMPATIBILITY.md"
_BEGIN: Final = "<!-- from here on: python -m tests.compatibility -->"


def render() -> str:
    """The generated part."""
    answered = answered_methods()
    missing = [method.name for method in METHODS if method.name not in answered]
    lines = [
        _BEGIN,
        "",
        "## What the programs show",
        "",
        "Each line is a program of tests/programs that the unmodified client runs, in real containers.",
        "",
        *_programs(),
        f"## RPCs: {len(answered)} of {len(METHODS)} are answered",
        "",
        "The others say so in a sentence, as UNIMPLEMENTED.",
        "",
        f"Answered: {', '.join(sorted(answered))}.",
        "",
        f"Not answered: {', '.join(sorted(missing))}.",
        "",
    ]
    return "\n".join(lines)


def answered_methods() -> set[str]:
    """RPCs for which a noun of the server has a method."""
    names = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method.name).lower(): method.name for method in METHODS}
    return {names[attribute] for noun in _classes() for attribute in vars(noun) if attribute in names}


def page() -> str:
    """The whole page as it should be."""
    written, _, _ = PAGE.read_text().partition(_BEGIN)
    return written + render()


def _classes() -> Iterator[type]:
    for module in pkgutil.iter_modules(jiffy.server.__path__, "jiffy.server."):
        if not module.name.endswith("__main__"):
            found = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            yield from (each for _, each in found if each.__module__ == module.name)


def _programs() -> Iterator[str]:
    for path in sorted((ROOT / "tests" / "programs").glob("test_*.py")):
        tree = ast.parse(path.read_text())
        tests = [each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")]
        yield f"### {(ast.get_docstring(tree) or '').splitlines()[0]}"
        yield ""
        yield from (f"- {name.removeprefix('test_').replace('_', ' ')}" for name in tests)
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
