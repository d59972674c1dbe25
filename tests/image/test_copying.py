"""Entries are placed as COPY places files."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError, NotFoundError
from jiffy.image.copying import Placement, place_entries, read_mode
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree


def tree(*paths: str) -> Tree:
    """Paths that end with / are folders; `a -> b` is a link."""
    entries = [Entry(b"/", Kind.DIRECTORY, 0o755)]
    for path in paths:
        name, arrow, target = path.partition(" -> ")
        if arrow:
            entries.append(Entry(name.encode(), Kind.SYMLINK, 0o777, target=target.encode()))
        elif path.endswith("/"):
            entries.append(Entry(path.rstrip("/").encode(), Kind.DIRECTORY, 0o750))
        else:
            entries.append(Entry(path.encode(), Kind.FILE, 0o644, uid=5, gid=6))
    return Tree([Index.load(encode_index(entries))])


SOURCE = tree("/a.txt", "/b.txt", "/dir/", "/dir/c.py", "/dir/sub/", "/dir/sub/d.py", "/link -> dir", "/one -> a.txt")
LOWER = tree("/etc/", "/usr/", "/usr/lib/", "/lib -> usr/lib", "/file")


def placed(*patterns: str, to: str, **options: object) -> list[str]:
    found = place_entries(SOURCE, patterns, LOWER, Placement(to, **options))  # type: ignore[arg-type]
    return sorted(entry.path.decode() for entry in found)


def test_a_file_gets_the_name_of_the_target() -> None:
    assert placed("a.txt", to="/x/y") == ["/x/y"]


@pytest.mark.parametrize("target", ["/etc", "/etc/", "/etc/."])
def test_a_file_goes_into_a_folder(target: str) -> None:
    assert placed("a.txt", to=target) == ["/etc/a.txt"]


def test_of_a_folder_the_contents_are_copied() -> None:
    assert placed("dir", to="/x") == ["/x", "/x/c.py", "/x/sub", "/x/sub/d.py"]


def test_all_of_the_source_may_be_copied() -> None:
    assert "/etc/dir/sub/d.py" in placed(".", to="/etc/")


def test_a_source_that_is_a_link_is_followed() -> None:
    assert placed("link", to="/x") == ["/x", "/x/c.py", "/x/sub", "/x/sub/d.py"]
    (entry,) = place_entries(SOURCE, ["one"], LOWER, Placement("/x"))
    assert entry.kind is Kind.FILE


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["/x/a.txt", "/x/b.txt"]),
        ("?.txt", ["/x/a.txt", "/x/b.txt"]),
        ("[b-z].txt", ["/x/b.txt"]),
        ("[!b].txt", ["/x/a.txt"]),
        ("d*/c.py", ["/x/c.py"]),
        ("*/*/d.py", ["/x/d.py"]),
        ("nothing*", []),
    ],
)
def test_wildcards_are_matched_within_names(pattern: str, expected: list[str]) -> None:
    assert [path for path in placed(pattern, to="/x/") if path.startswith("/x/")] == expected


def test_with_parents_the_path_stays() -> None:
    assert placed("dir/sub/d.py", to="/x/", parents=True) == ["/x/dir/sub/d.py"]
    assert placed("dir/./sub/d.py", to="/x/", parents=True) == ["/x/sub/d.py"]


def test_what_is_excluded_is_left_out() -> None:
    assert placed("dir", to="/x", excluded=("sub",)) == ["/x", "/x/c.py"]
    assert placed("dir", to="/x", excluded=("**/*.py",)) == ["/x", "/x/sub"]


def test_owner_and_mode_may_be_given() -> None:
    entries = place_entries(SOURCE, ["dir"], LOWER, Placement("/x", owner=(1, 2), mode="u=rwX,go=rX"))
    assert {(entry.uid, entry.gid) for entry in entries} == {(1, 2)}
    assert {entry.path: oct(entry.mode) for entry in entries}[b"/x/c.py"] == "0o644"
    assert {entry.path: oct(entry.mode) for entry in entries}[b"/x"] == "0o755"


def test_without_an_owner_it_stays() -> None:
    (entry,) = place_entries(SOURCE, ["a.txt"], LOWER, Placement("/x"))
    assert (entry.uid, entry.gid) == (5, 6)


def test_a_source_cannot_lead_out_of_its_tree() -> None:
    assert placed("../../a.txt", to="/x") == ["/x"]


def test_a_source_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFoundError, match=r"nothing.txt is not there"):
        placed("nothing.txt", to="/x")


def test_several_sources_need_a_folder() -> None:
    with pytest.raises(InvalidError, match="several sources"):
        placed("a.txt", "b.txt", to="/file")


@pytest.mark.parametrize("text", ["999", "u", "rwx", "+y", "77777", ""])
def test_a_mode_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        read_mode(text, 0o644, folder=False)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("0755", 0, 0o755), ("4755", 0, 0o4755), ("+x", 0o644, 0o755), ("g-r,o=", 0o644, 0o600), ("a+X", 0o600, 0o600)],
)
def test_modes_are_octal_or_symbolic(text: str, before: int, after: int) -> None:
    assert read_mode(text, before, folder=False) == after
