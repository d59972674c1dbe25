"""What of the store refers to objects: the roots of a collection."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from modal_proto import api_pb2

from jiffy.store.base import Connection, Database
from jiffy.store.mounts import CLIENT_REFERENCE

_DERIVED = ("merge/", "graft/", "erofs/", "catalogue/", "chunks/", "chunk-list/", "pack/", "inspection/")
_STEP: Final = "step/"


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of others. `of`: the digests of those, where they are known; `beside`: what belongs to it."""

    name: str
    digest: str
    of: tuple[str, ...]
    created_at: float
    beside: str = ""


@dataclass(frozen=True, slots=True)
class References:
    """`indexes` are kept with all that they list, `objects` by themselves, `derived` as long as what they were made of.
    `steps` are those of builds, each with the indexes of its result."""

    indexes: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    derived: list[Made] = field(default_factory=list)
    steps: list[Made] = field(default_factory=list)


class ReferenceStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, blobs_since: float) -> References:
        """What is referred to now. Blobs count that were made since then, or that an unfinished input needs."""

        def work(connection: Connection) -> References:
            found = References()
            _read_images(connection, found)
            _read_made(connection, found)
            _read_mounts(connection, found)
            _read_blobs(connection, found, blobs_since)
            heads = "SELECT head FROM volumes UNION SELECT head FROM volume_uses"
            found.indexes.update(row["head"] for row in connection.execute(heads))
            found.objects.update(row["digest"] for row in connection.execute("SELECT digest FROM profiles"))
            return found

        return await self._database.scan(work)

    async def forget(self, mounts_until: float, blobs_until: float, made: list[str]) -> None:
        """Drop the rows of mounts and blobs that nothing needs any more, and of what was made."""

        def work(connection: Connection) -> None:
            needed = _needed_mounts(connection)
            old = connection.execute("SELECT mount_id FROM mounts WHERE created_at<?", (mounts_until,)).fetchall()
            gone = [(row["mount_id"],) for row in old if row["mount_id"] not in needed]
            connection.executemany("DELETE FROM mounts WHERE mount_id=?", gone)
            wanted = _wanted_blobs(connection)
            old = connection.execute("SELECT blob_id FROM blobs WHERE created_at<?", (blobs_until,)).fetchall()
            gone = [(row["blob_id"],) for row in old if row["blob_id"] not in wanted]
            connection.executemany("DELETE FROM blobs WHERE blob_id=?", gone)
            connection.executemany("DELETE FROM made_indexes WHERE name=?", [(name,) for name in made])

        await self._database.write(work)


def _read_images(connection: Connection, found: References) -> None:
    for row in connection.execute("SELECT content FROM images WHERE content IS NOT NULL"):
        found.indexes.update(json.loads(row["content"])["layers"])


def _read_made(connection: Connection, found: References) -> None:
    for row in connection.execute("SELECT * FROM made_indexes"):
        content = json.loads(row["content"])
        if row["name"].startswith(_STEP):
            layers = tuple(content["layers"].split())
            found.steps.append(Made(row["name"], content["index"], layers, row["created_at"]))
        elif row["name"].startswith(_DERIVED):
            of = tuple(content.get("of", "").split()) or (row["name"].partition("/")[2],)
            found.derived.append(Made(row["name"], content["index"], of, row["created_at"], content.get("beside", "")))
        else:
            found.indexes.add(content["index"])


def _read_mounts(connection: Connection, found: References) -> None:
    needed = _needed_mounts(connection)
    for row in connection.execute("SELECT mount_id, content FROM mounts"):
        if row["mount_id"] in needed and not row["content"].startswith(CLIENT_REFERENCE):
            found.indexes.add(row["content"])


def _needed_mounts(connection: Connection) -> set[str]:
    """Those that have a name, and those of functions whose app is not stopped, as they are or were in any version."""
    needed = {row["mount_id"] for row in connection.execute("SELECT mount_id FROM mount_names")}
    functions = "functions JOIN apps USING (app_id)"
    for query in (
        f"SELECT definition FROM {functions} WHERE stopped_at IS NULL AND definition IS NOT NULL",
        f"""SELECT kept.definition FROM definitions AS kept JOIN ({functions})
        ON kept.function_id=functions.function_id WHERE stopped_at IS NULL""",
    ):
        for row in connection.execute(query):
            needed.update(api_pb2.Function.FromString(row["definition"]).mount_ids)
    return needed


def _read_blobs(connection: Connection, found: References, since: float) -> None:
    wanted = _wanted_blobs(connection)
    for row in connection.execute("SELECT blob_id, digest, created_at FROM blobs WHERE digest IS NOT NULL"):
        if row["created_at"] >= since or row["blob_id"] in wanted:
            found.objects.add(row["digest"])


def _wanted_blobs(connection: Connection) -> set[str]:
    bodies = connection.execute("SELECT body FROM inputs WHERE finished_at IS NULL")
    return {api_pb2.FunctionInput.FromString(row["body"]).args_blob_id for row in bodies}
