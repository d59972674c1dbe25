"""Tar archives as entries, in one pass: contents go to the objects as they come, nothing is unpacked."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self

from jiffy.errors import InvalidError
from jiffy.image.change import Change
from jiffy.image.compression import ERRORS, open_compressed
from jiffy.image.index import LONGEST_NAME, LONGEST_PATH, MOST_ENTRIES, Entry, Kind
from jiffy.image.links import follow
from jiffy.objects.base import Digest

_CHUNK: Final = 1 << 20
_TAR_HEADER: Final = 512
_BROKEN: Final[tuple[type[Exception], ...]] = (tarfile.TarError, ValueError, ArithmeticError, *ERRORS)
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."
_UNUSUAL: Final = re.compile(rb"(^|/)(/|\.|$)|\0")
_KINDS: Final = {
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


class ContentWriter(Protocol):
    """Takes the bytes of a file; what it is left without `publish` is as if it had not been."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def write(self, data: bytes) -> None: ...
    def publish(self) -> tuple[Digest, int]: ...


class ContentStore(Protocol):
    """Where the contents of files go."""

    def writer(self) -> ContentWriter: ...


def import_archive(
    stream: BinaryIO, objects: ContentStore, progress: Callable[[int], None] | None = None
) -> list[Entry]:
    """The tree of an uncompressed tar; InvalidError where it is broken or hostile. `progress` hears of files so far."""
    change = _Reader(stream, objects, progress).run()
    for path, target in change.untouched.items():
        raise InvalidError(f"{path[:100]!r} links to {target[:100]!r}, which is not there")
    return _complete({entry.path: entry for entry in change.entries})


def import_layer(
    stream: BinaryIO,
    objects: ContentStore,
    progress: Callable[[int], None] | None = None,
    place: Callable[[Digest, int], None] | None = None,
) -> Change:
    """An uncompressed layer of an OCI image as a change of the layers below it: names that begin with `.wh.` take away.
    `place` hears where each content begins in the stream; of one that is not in one piece nothing is heard."""
    return as_layer(_Reader(stream, objects, progress, place).run())


def as_layer(change: Change) -> Change:
    """The entries of a layer as what they do to the layers below: names that begin with `.wh.` take away."""
    layer = Change(untouched=change.untouched)
    for entry in change.entries:
        folder, _, name = entry.path.rpartition(b"/")
        if name == _OPAQUE:
            layer.opaque.add(folder or b"/")
        elif name.startswith(_WHITEOUT * 2):
            continue
        elif name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in (b"", b".", b".."):
                raise InvalidError(f"{entry.path[:100]!r} takes away what cannot be there")
            layer.removed.add(folder + b"/" + hidden)
        else:
            layer.entries.append(entry)
    layer.entries = _settle(layer.entries)
    return layer


def _settle(entries: list[Entry]) -> list[Entry]:
    """Names that lead through links of the same layer, led there."""
    links = {entry.path: entry.target for entry in entries if entry.kind is Kind.SYMLINK}
    folders: dict[bytes, bytes] = {b"": b""}
    settled = {}
    for entry in entries:
        folder, _, name = entry.path.rpartition(b"/")
        if folder not in folders:
            folders[folder] = follow(folder, links.get).rstrip(b"/") if links else folder
        path = folders[folder] + b"/" + name
        settled[path] = entry if path == entry.path else replace(entry, path=path)
    return list(settled.values())


class _Reader:
    """The members of an archive, the last of several with one name."""

    def __init__(
        self,
        stream: BinaryIO,
        objects: ContentStore,
        progress: Callable[[int], None] | None = None,
        place: Callable[[Digest, int], None] | None = None,
    ) -> None:
        self._stream = stream
        self._objects = objects
        self._progress = progress
        self._place = place
        self._entries: dict[bytes, Entry] = {}
        self._untouched: dict[bytes, bytes] = {}
        self._links = 0

    def run(self) -> Change:
        try:
            with tarfile.open(fileobj=self._stream, mode="r|", errorlevel=2, bufsize=tarfile.RECORDSIZE) as archive:
                for member in archive:
                    self._add(archive, member)
        except InvalidError:
            raise
        except _BROKEN as error:
            raise InvalidError("cannot read the archive", why=str(error)) from error
        return Change(entries=list(self._entries.values()), untouched=self._untouched)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = normal_path(os.fsencode(member.name))
        self._untouched.pop(path, None)
        self._entries.pop(path, None)
        self._entries[path] = self._link(member, path) if member.islnk() else self._entry(archive, member, path)
        if len(self._entries) > MOST_ENTRIES:
            raise InvalidError(f"an archive of more than {MOST_ENTRIES} entries")
        if self._progress is not None:
            self._progress(len(self._entries))
        archive.members.clear()  # type: ignore[attr-defined]

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes) -> Entry:
        entry = Entry(
            path=path,
            kind=_kind(member),
            mode=member.mode & 0o7777,
            uid=member.uid,
            gid=member.gid,
            mtime_ns=_time(member),
            xattrs=_xattrs(member),
        )
        match entry.kind:
            case Kind.SYMLINK:
                return replace(entry, target=os.fsencode(member.linkname))
            case Kind.CHARACTER | Kind.BLOCK:
                return replace(entry, device=os.makedev(member.devmajor, member.devminor))
            case Kind.FILE if member.size:
                digest = _store(archive, member, self._objects)
                if self._place is not None and not member.issparse():
                    self._place(digest, member.offset_data)
                return replace(entry, size=member.size, digest=digest)
        return entry

    def _link(self, member: tarfile.TarInfo, path: bytes) -> Entry:
        """A second name of a file that came before: both get one number. One of a layer below may be meant."""
        target = normal_path(os.fsencode(member.linkname))
        found = self._entries.get(target)
        if found is None:
            self._untouched[path] = target
            return Entry(path, Kind.FILE, member.mode & 0o7777, member.uid, member.gid, _time(member))
        if found.kind is Kind.DIRECTORY:
            raise InvalidError(f"{member.name[:100]!r} links to the folder {member.linkname[:100]!r}")
        if target in self._untouched:
            self._untouched[path] = self._untouched[target]
        if not found.link:
            self._links += 1
            found = self._entries[target] = replace(found, link=self._links)
        return replace(found, path=path)


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, compressed or not, as far as its first bytes tell."""
    try:
        with open_compressed(path) as stream:
            start = stream.read(_TAR_HEADER)
    except ERRORS:
        return False
    return start[257:262] == b"ustar"


def normal_path(name: bytes) -> bytes:
    """A member's name as an absolute path. InvalidError when it leads outside, or is too long."""
    if len(name) < LONGEST_NAME and not _UNUSUAL.search(name):
        return b"/" + name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name:
        raise InvalidError(f"{name[:100]!r} leads out of the archive")
    path = b"/" + b"/".join(parts)
    if len(path) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in parts):
        raise InvalidError(f"{name[:100]!r} is too long a name")
    return path


def _time(member: tarfile.TarInfo) -> int:
    """Nanoseconds since the epoch; what tarfile makes of a fraction is not exact."""
    told = member.pax_headers.get("mtime")
    return int(member.mtime) * 10**9 if told is None else int(Decimal(told) * 10**9)


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.isreg():
        return Kind.FILE
    if member.type not in _KINDS:
        raise InvalidError(f"{member.name[:100]!r} is of a kind {member.type!r} that is not known")
    return _KINDS[member.type]


def _store(archive: tarfile.TarFile, member: tarfile.TarInfo, objects: ContentStore) -> str:
    content = archive.extractfile(member)
    assert content is not None
    with objects.writer() as writer:
        received = 0
        while chunk := content.read(_CHUNK):
            received += len(chunk)
            writer.write(chunk)
        if received != member.size:
            raise InvalidError(f"the archive ends inside {member.name[:100]!r}")
        return writer.publish()[0]


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    pairs = {
        name.removeprefix(_XATTR).encode(): value.encode("utf-8", "surrogateescape")
        for name, value in member.pax_headers.items()
        if name.startswith(_XATTR)
    }
    return tuple(sorted(pairs.items()))


def _complete(entries: dict[bytes, Entry]) -> list[Entry]:
    """Add folders that the archive did not name; drop what lies below something that is no folder."""
    for path in list(entries):
        while path != b"/":
            path = path.rpartition(b"/")[0] or b"/"
            entries.setdefault(path, Entry(path=path, kind=Kind.DIRECTORY, mode=0o755))
            if entries[path].kind is not Kind.DIRECTORY:
                raise InvalidError(f"{path[:100]!r} is both a file and a folder")
    entries.setdefault(b"/", Entry(path=b"/", kind=Kind.DIRECTORY, mode=0o755))
    return list(entries.values())
