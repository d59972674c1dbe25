"""Collection: deletes objects that no image, mount, profile, blob or upload refers to any more.

Whatever was stored, or found to be there, within the grace is kept: an upload comes before what refers to it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ValidationError

from jiffy.errors import InvalidError, JiffyError
from jiffy.image.importing import KnownLayers
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.store.references import Made, References, ReferenceStore

logger = logging.getLogger(__name__)

GRACE_SECONDS: Final = 24 * 3600.0
LEAST_GRACE_SECONDS: Final = 300.0
BLOB_SECONDS: Final = 7 * 24 * 3600.0
BUILD_SECONDS: Final = 30 * 24 * 3600.0
"""How long the steps of builds and the layers of imports are kept for later ones, where no image has them."""

_INTERVAL_SECONDS: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """Counts and bytes of objects: what is referred to, what is not but young, and what was (or would be) removed."""

    kept: int
    young: int
    removed: int
    removed_bytes: int
    dry_run: bool


class Collection:
    """`forget_remote` drops what describes layers of registries, given what is needed and a time. Blobs are kept for
    `blob_seconds`: as long as outputs, which may be in them."""

    def __init__(
        self,
        references: ReferenceStore,
        objects: LocalObjects,
        layers: KnownLayers,
        forget_remote: Callable[[set[str], float], int],
        blob_seconds: float = BLOB_SECONDS,
    ) -> None:
        self._references = references
        self._objects = objects
        self._layers = layers
        self._forget_remote = forget_remote
        self._blob_seconds = blob_seconds
        self._lock = asyncio.Lock()

    async def run_forever(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            try:
                collected = await self.run()
                logger.info("%d objects removed, %d bytes", collected.removed, collected.removed_bytes)
            except JiffyError as error:
                logger.error("nothing was collected: %s", error)

    async def run(self, grace: float = GRACE_SECONDS, *, dry_run: bool = False) -> Collected:
        """Mark, then sweep. An index that cannot be read ends it: what it lists is not known."""
        async with self._lock:
            now = time.time()
            blobs_since = now - max(grace, self._blob_seconds)
            references = await self._references.read(blobs_since)
            builds_since = now - max(grace, BUILD_SECONDS)
            marked, dead = await asyncio.to_thread(self._mark, references, builds_since)
            if not dry_run:
                await asyncio.to_thread(self._layers.forget, builds_since)
                await asyncio.to_thread(self._forget_remote, marked, now - grace)
                old = [made.name for made in dead if made.created_at < now - grace]
                await self._references.forget(now - grace, blobs_since, old)
            return await asyncio.to_thread(self._sweep, marked, now - grace, dry_run)

    def _mark(self, references: References, builds_since: float) -> tuple[set[str], list[Made]]:
        """What is to be kept, and what was made of things that are not."""
        marked = set(references.objects)
        steps = [step for step in references.steps if step.created_at >= builds_since]
        for index in (*references.indexes, *(layer for step in steps for layer in step.of)):
            self._mark_index(index, marked)
        marked.update(self._layers.objects(builds_since))
        old = [step for step in references.steps if step.created_at < builds_since]
        return marked, [*self._mark_derived(references.derived, marked), *old]

    def _mark_derived(self, waiting: list[Made], marked: set[str]) -> list[Made]:
        """Mark what was made of what is marked; gives the rest."""
        while True:
            live = {made.name: made for made in waiting if marked.issuperset(made.of)}
            if not live:
                return waiting
            for made in live.values():
                self._mark_made(made, marked)
            waiting = [made for made in waiting if made.name not in live]

    def _mark_made(self, made: Made, marked: set[str]) -> None:
        if made.name.startswith(("merge/", "graft/")):
            self._mark_index(made.digest, marked)
        marked.update(filter(None, (made.digest, made.beside)))

    def _mark_index(self, digest: str, marked: set[str]) -> None:
        """An index that was lost lists nothing that anybody could still find."""
        if digest not in marked and self._objects.has(digest):
            marked.update(listed for listed, _ in Index.from_file(self._objects.path(digest)).digests())
        marked.add(digest)

    def _sweep(self, marked: set[str], until: float, dry_run: bool) -> Collected:
        kept = young = removed = size = 0
        for digest in self._objects:
            if digest in marked:
                kept += 1
            elif (freed := self._objects.delete_older(digest, until, dry_run=dry_run)) is None:
                young += 1
            else:
                removed += 1
                size += freed
        return Collected(kept, young, removed, size, dry_run)


async def serve_collection(request: web.Request, collection: Collection) -> web.StreamResponse:
    """POST {"grace": seconds, "dry_run": bool}."""
    try:
        wanted = _Request.model_validate_json(await request.read())
    except ValidationError as error:
        raise InvalidError("not a request to collect", why=str(error.errors()[0]["msg"])) from error
    if wanted.grace < LEAST_GRACE_SECONDS and not wanted.dry_run:
        raise InvalidError(
            f"a grace of {wanted.grace:g} seconds",
            why="what is being uploaded now would be removed",
            hint=f"the least is {LEAST_GRACE_SECONDS:g}",
        )
    collected = await collection.run(wanted.grace, dry_run=wanted.dry_run)
    return web.json_response(dataclasses.asdict(collected))


class _Request(BaseModel):
    grace: float = GRACE_SECONDS
    dry_run: bool = False
