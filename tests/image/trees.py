"""Trees for tests: entries drawn at random that make a tree."""

from __future__ import annotations

import hashlib
import os

from hypothesis import strategies as st

from jiffy.image.index import Entry, Kind

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
SHORT_NAMES = st.sampled_from([b"a", b"b", b"bin", b"\xff\xfe", b"c d", "ü".encode(), b"x" * 255, b"..data", b"a\n"])
XATTRS = st.dictionaries(
    st.sampled_from([b"user.a", b"user.long.name", b"trusted.x", b"security.note"]),
    st.binary(max_size=40),
    max_size=2,
).map(lambda pairs: tuple(sorted(pairs.items())))


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """A tree of up to 40 entries: every kind, hard links, attributes, odd names and times."""
    entries = {b"/": Entry(b"/", Kind.DIRECTORY, 0o755)}
    folders = [b""]
    for _ in range(draw(st.integers(0, 40))):
        path = draw(st.sampled_from(folders)) + b"/" + draw(st.one_of(SHORT_NAMES, NAMES))
        if path in entries or len(path) > 1000:
            continue
        entry = draw(_entries(path))
        entries[path] = entry
        if entry.kind is Kind.DIRECTORY:
            folders.append(path)
    return _link(draw, list(entries.values()))


@st.composite
def _entries(draw: st.DrawFn, path: bytes) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    size = draw(st.integers(1, 2**40)) if kind is Kind.FILE and draw(st.booleans()) else 0
    devices = kind in (Kind.CHARACTER, Kind.BLOCK)
    return Entry(
        path=path,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.sampled_from([0, 1000, 65535, 65536, 2**32 - 2])),
        gid=draw(st.sampled_from([0, 1000, 2**31])),
        mtime_ns=draw(st.integers(0, 2**34 * 10**9 - 1)),
        size=size,
        digest=hashlib.sha256(draw(st.binary(max_size=2))).hexdigest() if size else "",
        target=draw(st.binary(min_size=1, max_size=300).filter(lambda data: b"\0" not in data))
        if kind is Kind.SYMLINK
        else b"",
        device=os.makedev(draw(st.integers(1, 4095)), draw(st.integers(0, 2**20 - 1))) if devices else 0,
        xattrs=draw(XATTRS) if kind in (Kind.FILE, Kind.DIRECTORY) else (),
    )


def _link(draw: st.DrawFn, entries: list[Entry]) -> list[Entry]:
    """Give some files a second name."""
    from dataclasses import replace

    names = {entry.path for entry in entries}
    linked = []
    for number, entry in enumerate(entries, start=1):
        twin = entry.path + b"-link"
        if (
            entry.kind is Kind.FILE
            and len(twin.rpartition(b"/")[2]) <= 255
            and twin not in names
            and draw(st.booleans())
        ):
            linked += [replace(entry, link=number), replace(entry, path=twin, link=number)]
        else:
            linked.append(entry)
    return linked
