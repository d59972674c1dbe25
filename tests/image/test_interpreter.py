"""The Python of an image is found as its PATH finds it."""

from __future__ import annotations

import json
import subprocess
import sys

from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.interpreter import QUESTION, Interpreter, find_interpreter, guess_interpreter, read_answer
from jiffy.image.tree import Tree


def tree(**files: int) -> Tree:
    """Programs below /usr/bin by name, with their modes; `python3` is a link to python3.11."""
    entries = [Entry(path, Kind.DIRECTORY, 0o755) for path in (b"/", b"/usr", b"/usr/bin")]
    entries += [Entry(f"/usr/bin/{name}".encode(), Kind.FILE, mode) for name, mode in files.items()]
    entries.append(Entry(b"/usr/bin/python3", Kind.SYMLINK, 0o777, target=b"python3.11"))
    return Tree([Index.load(encode_index(entries))])


def test_it_is_found_by_the_search_path_through_links() -> None:
    assert find_interpreter(tree(**{"python3.11": 0o755}), "/bin:/usr/bin") == "/usr/bin/python3"


def test_what_is_called_python_comes_first() -> None:
    assert find_interpreter(tree(**{"python3.11": 0o755, "python": 0o755}), "/usr/bin") == "/usr/bin/python"


def test_what_cannot_be_run_or_is_not_there_is_none() -> None:
    assert find_interpreter(tree(**{"python3.11": 0o644}), "/usr/bin") == ""
    assert find_interpreter(tree(), "/usr/bin") == ""


def test_it_says_itself_what_it_is() -> None:
    said = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True, check=True).stdout
    answer = read_answer(f"a warning\n{said}")
    assert answer.series == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert answer.libc.startswith("glibc") and "pytest" in answer.packages


def test_one_that_says_nothing_is_none() -> None:
    assert read_answer("") == read_answer("{}") == read_answer("{broken") == Interpreter()
    assert read_answer(json.dumps({"series": "3.11"})) == Interpreter()


def test_its_name_tells_where_it_is_not_asked() -> None:
    guessed = guess_interpreter(tree(**{"python3.11": 0o755}), "/usr/bin/python3")
    assert (guessed.series, guessed.program, guessed.libc) == ("3.11", "/usr/bin/python3", "glibc")
    assert guess_interpreter(tree(python=0o755), "/usr/bin/python") == Interpreter()
