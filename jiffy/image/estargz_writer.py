"""Layers written as eStargz: any tool reads them as an ordinary tar.gz, and one that knows the table of contents reads files
of them one by one. What a start wants comes first, up to a landmark."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from jiffy.image.archive_writer import describe_member
from jiffy.image.estargz import NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, TOC_DIGEST, TOC_NAME
from jiffy.image.export import LayerFile
from jiffy.image.index import Entry, Index, Kind
from jiffy.image.manifest import OCI_LAYER
from jiffy.objects.base import Digest

CHUNK_BYTES: Final = 2**20
"""Of a file: each has a member of its own, and is had by itself."""

_LEVEL: Final = 6
_LANDMARK_CONTENT: Final = b"\x0f"
_KINDS: Final = {
    Kind.DIRECTORY: "dir",
    Kind.FILE: "reg",
    Kind.SYMLINK: "symlink",
    Kind.CHARACTER: "char",
    Kind.BLOCK: "block",
    Kind.FIFO: "fifo",
}
_UNCOMPRESSED_SIZE: Final = "io.containers.estargz.uncompressed-size"


def write_estargz(index: Index, find: Callable[[Digest], Path], path: Path, first: Sequence[Digest]) -> LayerFile:
    """One index as one layer. `first` are the objects that come before the landmark, in that order. The same index and the
    same order give the same bytes."""
    with path.open("wb") as file:
        writer = _Writer(file, find)
        for entry in _in_order(list(index), first):
            writer.add(entry)
        toc = writer.finish()
    digest = f"sha256:{writer.blob.hexdigest()}"
    notes = {TOC_DIGEST: toc, _UNCOMPRESSED_SIZE: str(writer.size)}
    return LayerFile(path, OCI_LAYER, digest, f"sha256:{writer.content.hexdigest()}", path.stat().st_size, notes)


def _in_order(entries: Sequence[Entry], first: Sequence[Digest]) -> list[Entry]:
    """What a start wants with the folders that lead there, the landmark, then the rest."""
    landmark = Entry((PREFETCH_LANDMARK if first else NO_PREFETCH_LANDMARK), Kind.FILE, 0o644, size=1)
    by_digest: dict[Digest, Entry] = {}
    for entry in entries:
        if entry.digest and not entry.link:
            by_digest.setdefault(entry.digest, entry)
    wanted = [by_digest[digest] for digest in first if digest in by_digest]
    paths = {entry.path for entry in wanted}
    folders = {parent for path in paths for parent in _parents(path)}
    above = [entry for entry in entries if entry.kind is Kind.DIRECTORY and entry.path in folders]
    early = {entry.path for entry in above} | paths
    return [*above, *wanted, landmark, *[entry for entry in entries if entry.path not in early]]


def _parents(path: bytes) -> list[bytes]:
    found = [b"/"]
    while (path := path.rpartition(b"/")[0]) not in (b"", b"/"):
        found.append(path)
    return found


class _Writer:
    """Writes gzip members one after the other, and notes where each begins."""

    def __init__(self, file: BinaryIO, find: Callable[[Digest], Path]) -> None:
        self._file = file
        self._find = find
        self._member: Any = None
        self._position = 0
        self._table: list[dict[str, Any]] = []
        self._first_names: dict[int, str] = {}
        self.size = 0
        self.blob = hashlib.sha256()
        self.content = hashlib.sha256()

    def add(self, entry: Entry) -> None:
        if entry.kind is Kind.SOCKET:
            return
        member = describe_member(entry)
        described = _describe(entry, member)
        if entry.link and (name := self._first_names.setdefault(entry.link, member.name)) != member.name:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, name, 0
            described = {"name": member.name, "type": "hardlink", "linkName": name, "mode": entry.mode}
            self._write_header(member)
            self._table.append(described)
        elif entry.kind is Kind.FILE and entry.size:
            self._write_header(member)
            self._write_content(entry, described)
        else:
            self._write_header(member)
            self._table.append(described)

    def finish(self) -> str:
        """The end of the archive, the table and the footer; gives the table's digest."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._end_member()
        start = self._position
        text = json.dumps({"version": 1, "entries": self._table}, separators=(",", ":")).encode()
        self._emit(_table_member(text), counted=True)
        self._emit(_footer(start))
        return f"sha256:{hashlib.sha256(text).hexdigest()}"

    def _write_header(self, member: tarfile.TarInfo) -> None:
        self._write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _write_content(self, entry: Entry, described: dict[str, Any]) -> None:
        with self._open(entry) as content:
            offset = 0
            while chunk := content.read(CHUNK_BYTES):
                self._end_member()
                place = {"offset": self._position, "chunkDigest": f"sha256:{hashlib.sha256(chunk).hexdigest()}"}
                if entry.size > CHUNK_BYTES:
                    place |= {"chunkOffset": offset, "chunkSize": len(chunk)}
                self._table.append(
                    {**described, **place} if not offset else {"name": described["name"], "type": "chunk", **place}
                )
                self._write(chunk)
                offset += len(chunk)
        self._write(bytes(-entry.size % tarfile.BLOCKSIZE))

    def _open(self, entry: Entry) -> BinaryIO:
        return self._find(entry.digest).open("rb") if entry.digest else io.BytesIO(_LANDMARK_CONTENT)

    def _write(self, data: bytes) -> None:
        self.content.update(data)
        self.size += len(data)
        if self._member is None:
            self._emit(_GZIP_HEADER)
            self._member = [zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS), 0, 0]
        deflate, checksum, size = self._member
        self._member[1:] = [zlib.crc32(data, checksum), size + len(data)]
        self._emit(deflate.compress(data))

    def _end_member(self) -> None:
        if self._member is not None:
            deflate, checksum, size = self._member
            self._emit(deflate.flush() + struct.pack("<II", checksum, size % 2**32))
            self._member = None

    def _emit(self, data: bytes, *, counted: bool = False) -> None:
        if counted:
            plain = gzip.decompress(data)
            self.content.update(plain)
            self.size += len(plain)
        self._file.write(data)
        self.blob.update(data)
        self._position += len(data)


_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def _describe(entry: Entry, member: tarfile.TarInfo) -> dict[str, Any]:
    """An entry of the table."""
    name = member.name + ("/" if entry.kind is Kind.DIRECTORY and not member.name.endswith("/") else "")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(entry.mtime_ns // 10**9))
    described: dict[str, Any] = {
        "name": name,
        "type": _KINDS[entry.kind],
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "modtime": f"{moment}.{entry.mtime_ns % 10**9:09d}Z",
    }
    if entry.kind is Kind.FILE and entry.size:
        digest = entry.digest or hashlib.sha256(_LANDMARK_CONTENT).hexdigest()
        described |= {"size": entry.size, "digest": f"sha256:{digest}"}
    if entry.kind is Kind.SYMLINK:
        described["linkName"] = member.linkname
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        described |= {"devMajor": member.devmajor, "devMinor": member.devminor}
    if entry.xattrs:
        encoded = {name.decode(): base64.b64encode(value).decode() for name, value in entry.xattrs}
        described["xattrs"] = encoded
    return described


def _table_member(text: bytes) -> bytes:
    """The table as a tar of one file, in a member of its own."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(TOC_NAME)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return gzip.compress(stream.getvalue(), _LEVEL, mtime=0)


def _footer(start: int) -> bytes:
    """An empty gzip member whose extra field says where the table begins."""
    field = f"{start:016x}STARGZ".encode()
    extra = b"SG" + struct.pack("<H", len(field)) + field
    header = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" + struct.pack("<H", len(extra)) + extra
    return header + b"\x01\x00\x00\xff\xff" + bytes(8)
