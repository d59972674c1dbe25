"""Blobs: large arguments and results. A blob is an object once it was uploaded."""

from __future__ import annotations

import time

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database


class Blobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, blob_id: str, size: int) -> None:
        """Announce a blob of `size` bytes that will be uploaded."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO blobs (blob_id, size, created_at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
                (blob_id, size, time.time()),
            )

        await self._database.write(work)

    async def complete(self, blob_id: str, digest: str, size: int) -> None:
        def work(connection: Connection) -> None:
            connection.execute("UPDATE blobs SET digest=?, size=? WHERE blob_id=?", (digest, size, blob_id))

        await self._database.write(work)

    async def announced(self, blob_id: str) -> int:
        """The size in bytes that was announced."""
        return int((await self._get(blob_id))[0])

    async def digest(self, blob_id: str) -> str:
        """The object that holds the blob."""
        digest = (await self._get(blob_id))[1]
        if digest is None:
            raise NotFoundError(f"blob {blob_id} was not uploaded yet")
        return digest

    async def _get(self, blob_id: str) -> tuple[int, str | None]:
        def work(connection: Connection) -> tuple[int, str | None] | None:
            row = connection.execute("SELECT size, digest FROM blobs WHERE blob_id=?", (blob_id,)).fetchone()
            return None if row is None else (row["size"], row["digest"])

        if (found := await self._database.read(work)) is None:
            raise NotFoundError(f"no blob {blob_id}")
        return found
