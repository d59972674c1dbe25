"""Pythons that run in any image with glibc, for `add_python=`: the builds of python-build-standalone."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from jiffy.errors import NotFoundError
from jiffy.image.archive import import_archive
from jiffy.image.compression import open_compressed
from jiffy.image.index import encode_index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.server.derivations import Derivations
from jiffy.server.downloads import Downloads

_NAME: Final = re.compile(r"python-build-standalone\.(\d{8})\.(\d+\.\d+\.\d+)(t?)-gnu")


@dataclass(frozen=True, slots=True)
class Pythons:
    """`source` is an address below which a release's files lie, as at the project's own releases."""

    derivations: Derivations
    objects: LocalObjects
    downloads: Downloads
    source: str

    def knows(self, name: str) -> bool:
        """Whether a mount's name is that of a Python."""
        return _NAME.fullmatch(name) is not None

    async def index(self, name: str) -> Digest:
        """The index of a Python at /python; NotFoundError or UnavailableError when it is not to be had."""
        return (await self.derivations.make(f"base/{name}", lambda: self._make(name)))["index"]

    async def _make(self, name: str) -> Digest:
        match = _NAME.fullmatch(name)
        assert match is not None
        release, version, threads = match.groups()
        kind = "freethreaded-install_only" if threads else "install_only"
        file = f"cpython-{version}+{release}-x86_64-unknown-linux-gnu-{kind}.tar.gz"
        wanted = await self._checksum(release, file)
        digest, _ = await self.downloads.fetch(f"{self.source}/{release}/{file.replace('+', '%2B')}", wanted)
        return await asyncio.to_thread(self._import, digest)

    async def _checksum(self, release: str, file: str) -> Digest:
        digest, _ = await self.downloads.fetch(f"{self.source}/{release}/SHA256SUMS")
        listed = (await asyncio.to_thread(self.objects.read, digest)).decode(errors="replace")
        for line in listed.splitlines():
            checksum, _, name = line.partition("  ")
            if name == file:
                return checksum
        raise NotFoundError(f"release {release} of python-build-standalone has no {file}")

    def _import(self, digest: Digest) -> Digest:
        with open_compressed(self.objects.path(digest)) as stream, self.objects.batch() as batch:
            entries = import_archive(stream, batch)
        return self.objects.put(encode_index(entries))
