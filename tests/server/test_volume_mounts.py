"""What a container wrote to a volume, on what others committed meanwhile."""

from __future__ import annotations

from jiffy.image.change import Applied
from jiffy.image.index import Entry, Kind
from jiffy.server.volume_mounts import _apply

DIGEST = "ab" * 32


def file(path: str, size: int = 1) -> Entry:
    return Entry(path.encode(), Kind.FILE, 0o644, size=size, digest=DIGEST)


def folder(path: str) -> Entry:
    return Entry(path.encode(), Kind.DIRECTORY, 0o755)


def tree(*entries: Entry) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in (folder("/"), *entries)}


NOTHING = Applied([], set())


def test_what_was_written_is_put() -> None:
    head = tree(file("/old"))
    _apply(head, Applied([folder("/a"), file("/a/new")], set()), NOTHING)
    assert sorted(head) == [b"/", b"/a", b"/a/new", b"/old"]


def test_what_another_wrote_meanwhile_stays() -> None:
    """Also where this one had written the same file before, and committed that."""
    head = tree(file("/both", 7), file("/theirs"))
    mine = [file("/both", 1)]
    _apply(head, Applied([*mine, file("/mine")], set()), Applied(mine, set()))
    assert head[b"/both"].size == 7
    assert sorted(head) == [b"/", b"/both", b"/mine", b"/theirs"]


def test_what_was_removed_goes_with_all_that_is_in_it() -> None:
    head = tree(folder("/a"), file("/a/b"), file("/c"))
    _apply(head, Applied([], {b"/a"}), NOTHING)
    assert sorted(head) == [b"/", b"/c"]


def test_what_was_written_committed_and_removed_again_goes() -> None:
    head = tree(file("/passing"), file("/stays"))
    _apply(head, NOTHING, Applied([file("/passing")], set()))
    assert sorted(head) == [b"/", b"/stays"]


def test_what_was_removed_before_is_not_removed_from_another_who_made_it_anew() -> None:
    head = tree(file("/again"))
    _apply(head, Applied([file("/other")], {b"/again"}), Applied([], {b"/again"}))
    assert sorted(head) == [b"/", b"/again", b"/other"]
