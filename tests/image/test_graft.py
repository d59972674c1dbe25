"""A loose layer is fitted onto the trees below it."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError
from jiffy.image.graft import graft
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), Kind.DIRECTORY, mode)


def file(path: str) -> Entry:
    return Entry(path.encode(), Kind.FILE, 0o644)


def link(path: str, target: str) -> Entry:
    return Entry(path.encode(), Kind.SYMLINK, 0o777, target=target.encode())


def index(*entries: Entry) -> Index:
    return Index.load(encode_index([folder("/"), *entries]))


def grafted(lowers: list[Index], *entries: Entry) -> dict[str, Entry]:
    return {entry.path.decode(): entry for entry in graft(Tree(lowers[::-1]), entries)}


def test_missing_parents_are_added() -> None:
    assert set(grafted([index()], file("/a/b/c"))) == {"/", "/a", "/a/b", "/a/b/c"}


def test_a_folder_below_keeps_its_attributes() -> None:
    found = grafted([index(folder("/tmp", 0o1777))], folder("/tmp", 0o700), file("/tmp/x"))
    assert found["/tmp"].mode == 0o1777


def test_the_topmost_tree_that_knows_a_folder_tells_its_attributes() -> None:
    found = grafted([index(folder("/a", 0o700)), index(folder("/a", 0o755))], file("/a/x"))
    assert found["/a"].mode == 0o700


def test_a_link_below_is_followed_so_that_it_is_not_hidden() -> None:
    below = index(folder("/usr"), folder("/usr/bin"), link("/bin", "usr/bin"))
    found = grafted([below], folder("/bin"), file("/bin/tool"))
    assert "/usr/bin/tool" in found
    assert "/bin" not in found


def test_absolute_and_climbing_links_stay_inside_the_root() -> None:
    below = index(folder("/a"), folder("/etc"), link("/a/up", "../../../../etc"), link("/abs", "/etc"))
    assert "/etc/x" in grafted([below], file("/a/up/x"))
    assert "/etc/x" in grafted([below], file("/abs/x"))


def test_a_loop_of_links_is_refused() -> None:
    with pytest.raises(InvalidError, match="loop"):
        grafted([index(link("/a", "b"), link("/b", "a"))], file("/a/x"))


def test_a_file_in_the_place_of_a_file_below_replaces_it() -> None:
    found = grafted([index(file("/a"))], Entry(b"/a", Kind.FILE, 0o600))
    assert found["/a"].mode == 0o600


def test_a_layer_that_makes_a_path_both_file_and_folder_is_refused() -> None:
    with pytest.raises(InvalidError, match="both"):
        grafted([index()], file("/a"), file("/a/b"))
