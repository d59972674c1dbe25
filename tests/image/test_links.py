"""Links are followed within a tree."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError
from jiffy.image.links import follow

LINKS = {b"/lib": b"usr/lib", b"/usr/up": b"../..", b"/abs": b"/etc/./x", b"/a": b"b", b"/b": b"a", b"/to": b"lib/y"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/usr/bin", b"/usr/bin"),
        (b"/lib/x", b"/usr/lib/x"),
        (b"/to", b"/usr/lib/y"),
        (b"/usr/up/etc", b"/etc"),
        (b"/abs/z", b"/etc/x/z"),
        (b"/../../etc", b"/etc"),
        (b"//usr/./lib/", b"/usr/lib"),
        (b"/", b"/"),
    ],
)
def test_where_a_path_leads(path: bytes, expected: bytes) -> None:
    assert follow(path, LINKS.get) == expected


def test_a_circle_is_refused() -> None:
    with pytest.raises(InvalidError, match="loop of links"):
        follow(b"/a/x", LINKS.get)
