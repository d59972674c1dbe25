"""Tar archives as entries, in one pass: contents go to the objects as they come, nothing is unpacked."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from jiffy.errors import InvalidError
from jiffy.image.index import LONGEST_NAME, LONGEST_PATH, MOST_ENTRIES, Entry, Kind
from jiffy.objects.local import ObjectBatch

_CHUNK: Final = 1 << 20
_TAR_HEADER: Final = 512
_XATTR: Final = "SCHILY.xattr."
_KINDS: Final = {
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def import_archive(
    stream: BinaryIO, objects: ObjectBatch, progress: Callable[[int], None] | None = None
) -> list[Entry]:
    """The tree of an uncompressed tar; InvalidError where it is broken or hostile. `progress` hears of files so far."""
    entries: dict[bytes, Entry] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
            for member in archive:
                path = normal_path(os.fsencode(member.name))
                entries[path] = _entry(archive, member, path, entries, objects)
                if len(entries) > MOST_ENTRIES:
                    raise InvalidError(f"an archive of more than {MOST_ENTRIES} entries")
                if progress is not None:
                    progress(len(entries))
    except (tarfile.TarError, EOFError) as error:
        raise InvalidError("cannot read the archive", why=str(error)) from error
    return _complete(entries)


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, compressed or not, as far as its first bytes tell."""
    try:
        with open_archive(path) as stream:
            start = stream.read(_TAR_HEADER)
    except (InvalidError, OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError):
        return False
    return start[257:262] == b"ustar"


@contextmanager
def open_archive(path: Path) -> Iterator[BinaryIO]:
    """A file as the uncompressed tar that it holds: gzip, bzip2, xz and zstd are known by their first bytes."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        yield decompress(file, start)


def decompress(stream: BinaryIO, start: bytes) -> BinaryIO:
    """A stream, which begins with `start`, without its compression."""
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if start.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(stream))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return stream


def normal_path(name: bytes) -> bytes:
    """A member's name as an absolute path. InvalidError when it leads outside, or is too long."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name:
        raise InvalidError(f"{name[:100]!r} leads out of the archive")
    path = b"/" + b"/".join(parts)
    if len(path) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in parts):
        raise InvalidError(f"{name[:100]!r} is too long a name")
    return path


def _entry(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes, entries: dict[bytes, Entry], objects: ObjectBatch
) -> Entry:
    if member.islnk():
        return _hard_link(member, path, entries)
    entry = Entry(
        path=path,
        kind=_kind(member),
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime_ns=int(float(member.mtime) * 10**9),
        xattrs=_xattrs(member),
    )
    match entry.kind:
        case Kind.SYMLINK:
            return replace(entry, target=os.fsencode(member.linkname))
        case Kind.CHARACTER | Kind.BLOCK:
            return replace(entry, device=os.makedev(member.devmajor, member.devminor))
        case Kind.FILE if member.size:
            return replace(entry, size=member.size, digest=_store(archive, member, objects))
    return entry


def _kind(member: tarfile.TarInfo) -> Kind:
    if member.isreg():
        return Kind.FILE
    if member.type not in _KINDS:
        raise InvalidError(f"{member.name[:100]!r} is of a kind {member.type!r} that is not known")
    return _KINDS[member.type]


def _hard_link(member: tarfile.TarInfo, path: bytes, entries: dict[bytes, Entry]) -> Entry:
    """A second name of a file that came before. Both get the first one's number."""
    target = normal_path(os.fsencode(member.linkname))
    found = entries.get(target)
    if found is None or found.kind is Kind.DIRECTORY:
        raise InvalidError(f"{member.name[:100]!r} links to {member.linkname[:100]!r}, which is not there")
    if not found.link:
        found = entries[target] = replace(found, link=len(entries) + 1)
    return replace(found, path=path)


def _store(archive: tarfile.TarFile, member: tarfile.TarInfo, objects: ObjectBatch) -> str:
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
