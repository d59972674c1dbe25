"""Images: their definition as the client sent it, and once made, what they consist of."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import Any

from jiffy.errors import NotFoundError
from jiffy.store.base import Connection, Database, Row


@dataclass(frozen=True, slots=True)
class ImageContent:
    """What a container of the image gets. `layers` are digests of indexes, bottom first; `python` is such as 3.11, empty
    where there is none, and `python_program` where it is; `libc` is such as `glibc 2.36`. The rest is as in the
    configuration of an OCI image."""

    layers: tuple[str, ...]
    python: str
    python_version_info: str
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    python_program: str = ""
    python_packages: dict[str, str] = field(default_factory=dict)
    libc: str = ""
    user: str = ""
    shell: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health_check: dict[str, Any] = field(default_factory=dict)
    on_build: tuple[str, ...] = ()

    @property
    def is_musl(self) -> bool:
        return self.libc.startswith("musl")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """`identity` is the same for definitions that mean the same; a `salt` tells apart those that were built anew.
    `build_function_id` is of a function that builds it, empty for none. `content` is None until the
    image was made. `created_at`: seconds since the epoch."""

    image_id: str
    builder_version: str
    definition: bytes
    identity: str = ""
    salt: str = ""
    build_function_id: str = ""
    content: ImageContent | None = None
    created_at: float = 0.0


class Images:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, image: StoredImage) -> None:
        """Add one that is to be made; of one that is there, the definition is replaced: its ids may have come to mean
        something that is gone."""

        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO images
                (image_id, builder_version, definition, identity, salt, build_function_id, created_at)
                VALUES (?,?,?,?,?,?,?) ON CONFLICT (image_id) DO UPDATE
                SET definition=excluded.definition, build_function_id=excluded.build_function_id""",
                (
                    image.image_id,
                    image.builder_version,
                    image.definition,
                    image.identity,
                    image.salt,
                    image.build_function_id,
                    time.time(),
                ),
            )

        await self._database.write(work)

    async def complete(self, image_id: str, content: ImageContent) -> None:
        def work(connection: Connection) -> None:
            text = json.dumps(dataclasses.asdict(content), sort_keys=True)
            connection.execute("UPDATE images SET content=? WHERE image_id=?", (text, image_id))

        await self._database.write(work)

    async def get(self, image_id: str) -> StoredImage:
        def work(connection: Connection) -> StoredImage | None:
            row = connection.execute("SELECT * FROM images WHERE image_id=?", (image_id,)).fetchone()
            if row is None:
                return None
            return _image(row)

        if (image := await self._database.read(work)) is None:
            raise NotFoundError(f"no image {image_id}")
        return image

    async def find(self, identity: str) -> StoredImage | None:
        """The latest of a definition: one that was made, rather than one that was not."""

        def work(connection: Connection) -> StoredImage | None:
            query = "SELECT * FROM images WHERE identity=? ORDER BY content IS NULL, created_at DESC LIMIT 1"
            row = connection.execute(query, (identity,)).fetchone()
            return None if row is None else _image(row)

        return await self._database.read(work)

    async def delete(self, image_id: str) -> None:
        """Forget an image. Its layers go with the next collection, if nothing else has them."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM images WHERE image_id=?", (image_id,))

        await self._database.write(work)

    async def finished(self) -> list[StoredImage]:
        """Those that were made, the oldest first."""

        def work(connection: Connection) -> list[StoredImage]:
            rows = connection.execute("SELECT * FROM images WHERE content IS NOT NULL ORDER BY created_at")
            return [_image(row) for row in rows]

        return await self._database.read(work)

    async def find_made(self, name: str) -> dict[str, str] | None:
        """What was remembered of an index that the server makes itself (a base, the client's files)."""

        def work(connection: Connection) -> dict[str, str] | None:
            row = connection.execute("SELECT content FROM made_indexes WHERE name=?", (name,)).fetchone()
            return None if row is None else dict(json.loads(row["content"]))

        return await self._database.read(work)

    async def remember_made(self, name: str, content: dict[str, str]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                """INSERT INTO made_indexes VALUES (?,?,?)
                ON CONFLICT (name) DO UPDATE SET content=excluded.content, created_at=excluded.created_at""",
                (name, json.dumps(content), time.time()),
            )

        await self._database.write(work)


def _image(row: Row) -> StoredImage:
    return StoredImage(
        image_id=row["image_id"],
        builder_version=row["builder_version"],
        definition=row["definition"],
        identity=row["identity"],
        salt=row["salt"],
        build_function_id=row["build_function_id"],
        content=_content(row["content"]),
        created_at=row["created_at"],
    )


def _content(text: str | None) -> ImageContent | None:
    if text is None:
        return None
    fields: dict[str, Any] = json.loads(text)
    tuples: dict[str, Any] = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return ImageContent(**{**fields, **tuples})
