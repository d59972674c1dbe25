"""Entries as a tar archive that every other tool reads: one layer of an OCI image."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Final

from jiffy.image.index import Entry, Kind
from jiffy.objects.base import Digest

_TYPES: Final = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHARACTER: tarfile.CHRTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def write_archive(entries: Iterable[Entry], find: Callable[[Digest], Path], stream: BinaryIO) -> int:
    """Write entries in their order; `find` gives the file of an object. The same entries give the same bytes. Sockets are
    left out, as archives cannot hold them: gives how many."""
    first_names: dict[int, str] = {}
    left_out = 0
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for entry in entries:
            if entry.kind is Kind.SOCKET:
                left_out += 1
            else:
                _add(archive, entry, find, first_names)
    return left_out


def _add(archive: tarfile.TarFile, entry: Entry, find: Callable[[Digest], Path], first_names: dict[int, str]) -> None:
    member = describe_member(entry)
    if entry.link and (first := first_names.setdefault(entry.link, member.name)) != member.name:
        member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
        archive.addfile(member)
    elif entry.kind is Kind.FILE and entry.digest:
        with find(entry.digest).open("rb") as content:
            archive.addfile(member, content)
    else:
        archive.addfile(member)


def describe_member(entry: Entry) -> tarfile.TarInfo:
    """An entry as the header of an archive's member."""
    name = os.fsdecode(entry.path.lstrip(b"/"))
    member = tarfile.TarInfo(name or "./")
    member.type = _TYPES[entry.kind]
    member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
    member.mtime = entry.mtime_ns // 10**9
    member.size = entry.size if entry.kind is Kind.FILE else 0
    member.linkname = os.fsdecode(entry.target)
    member.devmajor, member.devminor = os.major(entry.device), os.minor(entry.device)
    member.pax_headers = {
        f"SCHILY.xattr.{os.fsdecode(attribute)}": value.decode("utf-8", "surrogateescape")
        for attribute, value in entry.xattrs
    }
    if entry.mtime_ns % 10**9:
        member.pax_headers["mtime"] = f"{entry.mtime_ns // 10**9}.{entry.mtime_ns % 10**9:09d}"
    return member
