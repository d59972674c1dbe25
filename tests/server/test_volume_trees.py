"""Trees of volumes: put, copied, removed, listed."""

from __future__ import annotations

import pytest

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.server.volume_trees import ROOT, Entries, copy, list_folder, parse_path, put_files, remove

DIGEST = "cd" * 32


def file(path: str) -> Entry:
    return Entry(path.encode(), Kind.FILE, 0o644, size=1, digest=DIGEST)


@pytest.fixture
def entries() -> Entries:
    found = {b"/": ROOT}
    put_files(found, [file("/a/b/c"), file("/a/d"), file("/e")], only_new=True)
    return found


def names(entries: Entries, path: str = "/", *, recursive: bool = True) -> list[str]:
    index = Index.load(encode_index(entries.values()))
    return [entry.path.decode() for entry in list_folder(index, parse_path(path), recursive=recursive)]


def test_a_file_comes_with_the_folders_that_it_is_in(entries: Entries) -> None:
    assert names(entries) == ["/a", "/a/b", "/a/b/c", "/a/d", "/e"]
    assert names(entries, "a", recursive=False) == ["/a/b", "/a/d"]
    assert names(entries, "/a/b/c") == ["/a/b/c"]


def test_what_is_there_is_replaced_only_when_that_is_wanted(entries: Entries) -> None:
    with pytest.raises(ConflictError, match="there is a file /e already"):
        put_files(entries, [file("/e")], only_new=True)
    put_files(entries, [file("/e")], only_new=False)
    with pytest.raises(ConflictError, match="there is a folder /a already"):
        put_files(entries, [file("/a")], only_new=False)
    with pytest.raises(ConflictError, match="/e is a file"):
        put_files(entries, [file("/e/below")], only_new=False)


def test_a_folder_is_removed_as_a_whole_or_not_at_all(entries: Entries) -> None:
    with pytest.raises(InvalidError, match="/a is a folder"):
        remove(entries, b"/a", recursive=False)
    remove(entries, b"/a", recursive=True)
    assert names(entries) == ["/e"]
    with pytest.raises(NotFoundError):
        remove(entries, b"/a", recursive=True)
    with pytest.raises(InvalidError, match="the root"):
        remove(entries, b"/", recursive=True)


def test_files_are_copied_as_cp_does(entries: Entries) -> None:
    copy(entries, [b"/e"], b"/a", recursive=False)
    copy(entries, [b"/e"], b"/new/name", recursive=False)
    copy(entries, [b"/a"], b"/new", recursive=True)
    assert {"/a/e", "/new/name", "/new/a/b/c", "/new/a/e"} <= set(names(entries))
    with pytest.raises(InvalidError, match="into itself"):
        copy(entries, [b"/a"], b"/a", recursive=True)
    with pytest.raises(InvalidError, match="several files"):
        copy(entries, [b"/e", b"/a/d"], b"/nowhere", recursive=False)


@pytest.mark.parametrize("text", ["../x", "a/../../b", "a\0b"])
def test_no_path_leads_out(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_path(text)
