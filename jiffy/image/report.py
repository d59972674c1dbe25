"""What an image consists of: how much of it is of no use to a program, what runs read, what it shares with others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from jiffy.image.index import Entry, Kind
from jiffy.objects.base import Digest

_JUNK: Final[Mapping[str, re.Pattern[bytes]]] = {
    "translations": re.compile(rb"/usr/share/(locale|i18n)/|/(locale|locales|translations)/"),
    "documentation": re.compile(rb"/usr/share/(doc|info|gtk-doc|help)/"),
    "manual pages": re.compile(rb"/usr/(local/)?share/man/"),
    "caches": re.compile(rb"/var/(cache|lib/apt/lists)/|/root/\.cache/|/tmp/"),
    "headers and static libraries": re.compile(rb"/usr/(local/)?include/|\.(a|la|pc)$"),
    "tests": re.compile(rb"/(site|dist)-packages/.*/tests?/|/lib/python3[^/]*/test/"),
    "bytecode": re.compile(rb"\.py[co]$"),
}
"""Kinds of files that a program that runs seldom needs. A file is of the first that fits."""

_LARGEST: Final = 10


@dataclass(frozen=True, slots=True)
class Share:
    """Part of an image: files and bytes."""

    name: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Of one image. `digests` are its files' objects with their sizes; `read` those that runs read, None where no run was
    recorded."""

    name: str
    files: int
    folders: int
    links: int
    size: int
    unique_size: int
    junk: tuple[Share, ...]
    places: tuple[Share, ...]
    digests: Mapping[Digest, int] = field(repr=False)
    paths: frozenset[tuple[bytes, Digest]] = field(repr=False)
    read: Mapping[Digest, int] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Overlap:
    """What several images share: files of the same name and content, bytes of the same content, and of those the files and
    bytes that runs of all of them read."""

    names: tuple[str, ...]
    files: int
    size: int
    read_files: int
    read_size: int


def describe_contents(name: str, entries: Iterable[Entry], read: Mapping[Digest, int] | None) -> Contents:
    """`read`: bytes read of each object by runs that were recorded."""
    found = list(entries)
    files = [entry for entry in found if entry.kind is Kind.FILE]
    digests = {entry.digest: entry.size for entry in files if entry.digest}
    return Contents(
        name=name,
        files=len(files),
        folders=sum(entry.kind is Kind.DIRECTORY for entry in found),
        links=sum(entry.kind is Kind.SYMLINK for entry in found),
        size=sum(entry.size for entry in files),
        unique_size=sum(digests.values()),
        junk=_group(files, _kind_of_junk),
        places=_group(files, _place)[:_LARGEST],
        digests=digests,
        paths=frozenset((entry.path, entry.digest) for entry in files if entry.digest),
        read=None if read is None else {digest: size for digest, size in read.items() if digest in digests},
    )


def find_overlaps(images: Sequence[Contents]) -> list[Overlap]:
    """Of each pair, and of all where there are three."""
    groups = [*combinations(images, 2), *([tuple(images)] if len(images) == 3 else [])]
    return [_overlap(group) for group in groups]


def _overlap(group: Sequence[Contents]) -> Overlap:
    paths = frozenset.intersection(*[image.paths for image in group])
    shared = set.intersection(*[set(image.digests) for image in group])
    read = set.intersection(*[set(image.read or ()) for image in group])
    sizes = group[0].digests
    return Overlap(
        names=tuple(image.name for image in group),
        files=len(paths),
        size=sum(sizes[digest] for digest in shared),
        read_files=len(read),
        read_size=sum(sizes[digest] for digest in read),
    )


def _group(files: Iterable[Entry], key: Callable[[bytes], str]) -> tuple[Share, ...]:
    """The largest first; what has no key is left out."""
    found: dict[str, list[int]] = {}
    for entry in files:
        if name := key(entry.path):
            found.setdefault(name, []).append(entry.size)
    shares = [Share(name, len(sizes), sum(sizes)) for name, sizes in found.items()]
    return tuple(sorted(shares, key=lambda share: -share.size))


def _kind_of_junk(path: bytes) -> str:
    return next((name for name, pattern in _JUNK.items() if pattern.search(path)), "")


def _place(path: bytes) -> str:
    """The folder of the second level that a file is in."""
    parts = path.split(b"/")
    return b"/".join(parts[: min(len(parts) - 1, 3)]).decode(errors="replace") or "/"
