"""Mounts: trees of files that programs bring, each an index object; some have a name."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database

CLIENT_REFERENCE = "client:"


@dataclass(frozen=True, slots=True)
class Mount:
    """`content` is the digest of an index, or `client:VERSION` for the client's files, which are made per Python."""

    mount_id: str
    content: str
    checksum: str


class Mounts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, mount: Mount, *, namespace: int = 0, name: str = "") -> None:
        """Create; with a name, the name now means this mount."""

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO mounts VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
                (mount.mount_id, mount.content, mount.checksum, time.time()),
            )
            if name:
                connection.execute(
                    """INSERT INTO mount_names VALUES (?,?,?)
                    ON CONFLICT (namespace, name) DO UPDATE SET mount_id=excluded.mount_id""",
                    (namespace, name, mount.mount_id),
                )

        await self._database.write(work)

    async def get(self, mount_id: str) -> Mount:
        mount = await self._find("SELECT * FROM mounts WHERE mount_id=?", mount_id)
        if mount is None:
            raise NotFoundError(f"no mount {mount_id}")
        return mount

    async def find(self, namespace: int, name: str) -> Mount | None:
        return await self._find(
            "SELECT mounts.* FROM mounts JOIN mount_names USING (mount_id) WHERE namespace=? AND name=?",
            namespace,
            name,
        )

    async def _find(self, query: str, *values: object) -> Mount | None:
        def work(connection: Connection) -> Mount | None:
            row = connection.execute(query, values).fetchone()
            return None if row is None else Mount(row["mount_id"], row["content"], row["checksum"])

        return await self._database.read(work)
