"""An index gives back the tree that was put in, and refuses everything that is none."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.errors import CorruptError, InvalidError
from jiffy.image.index import Entry, Index, Kind, encode_index, sort_key
from tests.image.trees import trees

ROOT = Entry(b"/", Kind.DIRECTORY, 0o755)
FILE = Entry(b"/file", Kind.FILE, 0o644, size=3, digest="ab" * 32)


def numbered(entries: list[Entry]) -> list[Entry]:
    """With link numbers as an index gives them: in the order of the paths."""
    numbers: dict[int, int] = {}
    ordered = sorted(entries, key=lambda entry: sort_key(entry.path))
    return [
        replace(entry, link=numbers.setdefault(entry.link, len(numbers) + 1)) if entry.link else entry
        for entry in ordered
    ]


@given(tree=trees())
@settings(max_examples=100, deadline=None)
def test_a_tree_comes_back_as_it_was(tree: list[Entry]) -> None:
    assert list(Index.load(encode_index(tree))) == numbered(tree)


@given(tree=trees(), seed=st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_same_tree_gives_the_same_bytes_in_whatever_order(tree: list[Entry], seed: object) -> None:
    shuffled = list(tree)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert encode_index(shuffled) == encode_index(tree)


@given(tree=trees())
@settings(max_examples=50, deadline=None)
def test_each_path_is_found_and_no_other(tree: list[Entry]) -> None:
    index = Index.load(encode_index(tree))
    for entry in numbered(tree):
        assert index.lookup(entry.path) == entry
    assert index.lookup(b"/no/such/path") is None


@given(tree=trees())
@settings(max_examples=50, deadline=None)
def test_objects_are_listed_once_with_their_sizes(tree: list[Entry]) -> None:
    index = Index.load(encode_index(tree))
    listed = [digest for digest, _ in index.digests()]
    assert sorted(listed) == sorted({entry.digest for entry in tree if entry.digest})
    assert index.total_size() == sum(entry.size for entry in tree)


@given(tree=trees(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_index_is_refused_or_read_but_never_breaks_the_reader(tree: list[Entry], data: st.DataObject) -> None:
    encoded = bytearray(encode_index(tree))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptError, InvalidError):
        list(Index.load(bytes(encoded)))


@given(tree=trees(), cut=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_a_truncated_index_is_corrupt(tree: list[Entry], cut: int) -> None:
    encoded = encode_index(tree)
    with pytest.raises(CorruptError):
        Index.load(encoded[: max(0, len(encoded) - cut)])


def test_an_index_of_another_version_is_named(tmp_path: Path) -> None:
    encoded = bytearray(encode_index([ROOT]))
    encoded[8] = 9
    with pytest.raises(InvalidError, match="version 9"):
        Index.load(bytes(encoded))


def test_a_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(encode_index([ROOT, FILE]))
    assert Index.from_file(path).lookup(b"/file") == FILE


def test_an_empty_file_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "index").touch()
    with pytest.raises(CorruptError):
        Index.from_file(tmp_path / "index")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [FILE],
        [ROOT, replace(FILE, path=b"/absent/file")],
        [ROOT, FILE, FILE],
        [ROOT, FILE, replace(FILE, path=b"/file/below")],
        [ROOT, replace(FILE, path=b"/../file")],
        [ROOT, replace(FILE, path=b"/./file")],
        [ROOT, replace(FILE, path=b"/" + b"x" * 256)],
        [ROOT, replace(FILE, path=b"relative")],
        [ROOT, replace(FILE, path=b"/a\0b")],
        [ROOT, replace(FILE, digest="")],
        [ROOT, Entry(b"/link", Kind.SYMLINK, 0o777)],
    ],
)
def test_what_makes_no_tree_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(InvalidError):
        encode_index(entries)


def test_an_entry_costs_little() -> None:
    entries = [
        ROOT,
        *(Entry(b"/%06d" % number, Kind.FILE, 0o644, size=1, digest=_digest(number)) for number in range(999)),
    ]
    assert len(encode_index(entries)) / 1000 < 130


def _digest(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()
