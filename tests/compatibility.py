"""docs/COMPATIBILITY.md says what works, and each of its lines is held against what ran.

- The table of features is written by hand. Its last column names programs of tests/programs: `calls` is all of
  test_calls.py, `calls: map gives results ...` one test of it. They must be there (tests/test_compatibility.py).
- The list of programs follows from the source.
- Which RPCs are shown by a program is what servers noted (jiffy/server/answered.py) while all programs ran; the page is
  rewritten from that by `scripts/test --write-compatibility`, which runs the programs only. A later run in which all
  programs pass fails when the page shows an RPC that no client or container got an answer to (tests/recording.py). One that
  is shown for the first time does not make the page false, so it fails nothing; and what clients call only as it happens
  (tests/rpcs.py) is never said to be shown. So what differs from run to run cannot fail one.

`python -m tests.compatibility` rewrites the rest of the page, and keeps what it says of shown RPCs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import jiffy.server
from jiffy.server.service import METHODS
from tests.rpcs import NEEDED, SOMETIMES, all_needed, needed

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "COMPATIBILITY.md"
PROGRAMS: Final = ROOT / "tests" / "programs"
_BEGIN: Final = "<!-- from here on: scripts/test --write-compatibility -->"
_NOTHING: Final = "-"


def page(shown: Collection[str] | None = None) -> str:
    """The whole page as it should be; `shown`: RPCs that the programs show, as the page says when it is left out."""
    written, _, _ = PAGE.read_text().partition(_BEGIN)
    return written + "\n".join(_render(shown_on_page() if shown is None else set(shown)))


def shown_on_page() -> set[str]:
    """RPCs that the page says are shown by programs."""
    _, _, generated = PAGE.read_text().partition(_BEGIN)
    rows = re.findall(r"^\| ([a-z, ]+) \| ([A-Za-z0-9, -]+) \|", generated, re.MULTILINE)
    return {name for group, names in rows if group in NEEDED for name in names.split(", ")} - {_NOTHING}


def what_is_stale(shown: Collection[str]) -> str:
    """What the page says and a run of all programs did not show; empty when it is right."""
    gone = sorted(shown_on_page() - set(shown))
    return f"no program shows {', '.join(gone)}" if gone else ""


def answered_methods() -> set[str]:
    """RPCs for which a noun of the server has a method."""
    names = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method.name).lower(): method.name for method in METHODS}
    return {names[attribute] for noun in _classes() for attribute in vars(noun) if attribute in names}


def programs() -> dict[str, list[str]]:
    """Tests of tests/programs, as sentences, by the middle of the name of their file."""
    return {
        path.stem.removeprefix("test_"): [_sentence(name) for name in _tests(ast.parse(path.read_text()))]
        for path in _program_files()
    }


def program_ids() -> set[str]:
    """The same tests as pytest names them."""
    return {
        f"tests/programs/{path.name}::{name}"
        for path in _program_files()
        for name in _tests(ast.parse(path.read_text()))
    }


def feature_rows() -> list[tuple[str, str]]:
    """Of the table of features: what it is, and the programs that show it."""
    written, _, _ = PAGE.read_text().partition(_BEGIN)
    rows = [line.strip("|").split(" | ") for line in written.splitlines() if line.startswith("| ")]
    return [(row[0].strip(), row[-1].strip()) for row in rows[1:]]


def unknown_programs(cell: str) -> list[str]:
    """What a cell of the table of features names and nobody has written."""
    known = programs()
    named = [] if cell == _NOTHING else cell.split("; ")
    return [each for each in named if not _is_known(each, known)]


def _is_known(named: str, known: dict[str, list[str]]) -> bool:
    file, _, test = named.partition(": ")
    return file in known and (not test or test in known[file])


def _render(shown: Collection[str]) -> Iterator[str]:
    answered = answered_methods()
    yield from (_BEGIN, "", "## What the programs show", "")
    yield from ("Each line is a program of tests/programs that the unmodified client runs, in real containers.", "")
    for path in _program_files():
        tree = ast.parse(path.read_text())
        yield from (f"### {(ast.get_docstring(tree) or '').splitlines()[0]}", "")
        yield from (f"- {_sentence(name)}" for name in _tests(tree))
        yield ""
    yield from (f"## RPCs: {len(answered)} of {len(METHODS)} are answered", "")
    yield from ("A program shows an RPC when a client, or a container, got an answer to it while the programs ran.", "")
    yield from ("| for | shown by a program | answered, shown by none | missing |", "|---|---|---|---|")
    for group in NEEDED:
        here = [name for name in needed(group) if name in answered]
        proven = [name for name in here if name in shown and name not in SOMETIMES]
        rest = [name for name in here if name not in proven]
        missing = [name for name in needed(group) if name not in answered]
        yield f"| {group} | {_list(proven)} | {_list(rest)} | {_list(missing)} |"
    others = {method.name for method in METHODS} - all_needed()
    yield from ("", f"Of others, these are answered: {_list(sorted(others & answered))}.", "")
    yield from ("The rest says so in a sentence, as UNIMPLEMENTED:", "", *_by_prefix(others - answered), "")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or _NOTHING


def _by_prefix(names: Collection[str]) -> Iterator[str]:
    """A line for each of the first words of names: two who change the server at once rarely change the same one."""
    prefixes = sorted({_prefix(name) for name in names})
    for prefix in prefixes:
        yield f"- {', '.join(sorted(name for name in names if _prefix(name) == prefix))}"


def _prefix(name: str) -> str:
    found = re.match(r"[A-Z][a-z]+", name)
    return found[0] if found is not None else name


def _classes() -> Iterator[type]:
    for module in pkgutil.iter_modules(jiffy.server.__path__, "jiffy.server."):
        if not module.name.endswith("__main__"):
            found = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            yield from (each for _, each in found if each.__module__ == module.name)


def _program_files() -> list[Path]:
    return sorted(PROGRAMS.glob("test_*.py"))


def _tests(tree: ast.Module) -> list[str]:
    """Coroutines too."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [each.name for each in tree.body if isinstance(each, functions) and each.name.startswith("test_")]


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
