"""Several indexes are seen as one tree."""

from __future__ import annotations

from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree


def index(*entries: Entry) -> Index:
    return Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), *entries]))


def file(path: bytes, mode: int = 0o644, link: int = 0) -> Entry:
    return Entry(path, Kind.FILE, mode, link=link)


LOWER = index(
    Entry(b"/a", Kind.DIRECTORY, 0o755), file(b"/a/x"), file(b"/a/y"), file(b"/one", link=1), file(b"/two", link=1)
)
UPPER = index(
    Entry(b"/a", Kind.DIRECTORY, 0o700),
    file(b"/a/x", 0o600),
    file(b"/eins", link=1),
    file(b"/zwei", link=1),
    Entry(b"/to", Kind.SYMLINK, 0o777, target=b"a/y"),
)
TREE = Tree([LOWER, UPPER])


def test_the_upper_entry_is_seen() -> None:
    assert (found := TREE.lookup(b"/a/x")) and found.mode == 0o600
    assert (found := TREE.lookup(b"/a")) and found.mode == 0o700


def test_a_folder_has_what_either_has() -> None:
    assert [entry.path for entry in TREE.below(b"/a")] == [b"/a", b"/a/x", b"/a/y"]


def test_links_are_followed_to_where_they_lead() -> None:
    assert (found := TREE.find(b"/to")) and found.path == b"/a/y"
    assert TREE.find(b"/nothing") is None


def test_hard_links_of_different_layers_stay_different_files() -> None:
    links = {entry.path: entry.link for entry in TREE if entry.link}
    assert links[b"/one"] == links[b"/two"] != links[b"/eins"] == links[b"/zwei"]


def test_what_only_begins_alike_is_not_inside() -> None:
    tree = Tree([index(Entry(b"/a", Kind.DIRECTORY, 0o755), file(b"/a-b"), file(b"/a/z"))])
    assert [entry.path for entry in tree.below(b"/a")] == [b"/a", b"/a/z"]
