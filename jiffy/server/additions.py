"""ADD's own sources: files fetched from the web, repositories, and archives that are unpacked as they are read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from jiffy.errors import InvalidError
from jiffy.image.archive import import_archive, is_archive
from jiffy.image.compression import open_compressed
from jiffy.image.copying import match_paths
from jiffy.image.index import Entry, Kind
from jiffy.image.instructions import Copy
from jiffy.image.tree import Tree
from jiffy.objects.local import LocalObjects
from jiffy.server.downloads import Downloads
from jiffy.server.repositories import Repositories, is_repository, without_login
from jiffy.server.steps import Hear

_FOLDER: Final = "/.jiffy-added"


@dataclass(frozen=True, slots=True)
class Added:
    """Entries to put in the context, and what to copy from there."""

    names: tuple[str, ...]
    entries: tuple[Entry, ...] = ()


class Additions:
    def __init__(self, objects: LocalObjects, downloads: Downloads) -> None:
        self._objects = objects
        self._downloads = downloads
        self._repositories = Repositories(objects)

    async def add(self, name: str, context: Tree, copy: Copy, report: Hear) -> Added:
        """One source of an ADD. InvalidError, UnavailableError or CorruptError when it is not to be had."""
        if is_repository(name):
            return await self._clone(name, copy, report)
        if name.startswith(("http://", "https://")):
            return await self._fetch(name, copy, report)
        paths = [path for path, _ in match_paths(context, name)]
        if copy.unpack is False:
            return Added((name,))
        unpacked = [await asyncio.to_thread(self._unpack, context, path) for path in paths]
        if not any(each.entries for each in unpacked):
            return Added((name,))
        names = tuple(name for each in unpacked for name in each.names)
        return Added(names, tuple(entry for each in unpacked for entry in each.entries))

    async def _fetch(self, url: str, copy: Copy, report: Hear) -> Added:
        kind, _, wanted = copy.checksum.partition(":")
        if copy.checksum and (kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", wanted)):
            raise InvalidError(f"--checksum={copy.checksum}", hint="write sha256: and 64 hex digits")
        report(f"fetching {url}")
        digest, size = await self._downloads.fetch(url, wanted)
        name = Path(unquote(urlsplit(url).path)).name
        if not name:
            raise InvalidError(f"{url} names no file")
        entry = Entry(f"/{name}".encode(), Kind.FILE, 0o600, size=size, digest=digest if size else "")
        if copy.unpack:
            return await asyncio.to_thread(self._unpack_object, entry)
        return Added((f"/{name}",), (entry,))

    def _unpack(self, context: Tree, path: bytes) -> Added:
        entry = context.find(path)
        assert entry is not None
        if entry.kind is not Kind.FILE or not entry.digest or not is_archive(self._objects.path(entry.digest)):
            return Added((os.fsdecode(path),))
        return self._unpack_object(entry)

    def _unpack_object(self, entry: Entry) -> Added:
        folder = f"{_FOLDER}/{hashlib.sha256(entry.path).hexdigest()[:16]}"
        with open_compressed(self._objects.path(entry.digest)) as stream, self._objects.batch() as batch:
            entries = import_archive(stream, batch)
        return Added((folder,), tuple([_moved(each, folder) for each in entries]))

    async def _clone(self, address: str, copy: Copy, report: Hear) -> Added:
        report(f"cloning {without_login(address)}")
        entries = await self._repositories.fetch(address, keep_git=copy.keep_git)
        place = f"{_FOLDER}/{hashlib.sha256(address.encode()).hexdigest()[:16]}"
        return Added((place,), tuple([_moved(each, place) for each in entries]))


def _moved(entry: Entry, folder: str) -> Entry:
    return replace(entry, path=(folder.encode() + entry.path).rstrip(b"/"))
