"""Objects that are in layers of registries only: fetched by ranged requests when somebody wants them, verified, and
kept. Parts of large ones are passed on to who asks for them, who keeps and verifies them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from jiffy.image.pieces import Piece, Place, place_size
from jiffy.image.remote import RemoteLayer, layer_paths, load_layer, remove_layer
from jiffy.objects.base import Digest
from jiffy.objects.chunks import LARGE, ChunkList
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import encode_profile, whole
from jiffy.server.layer_spans import GAP, LARGEST_REQUEST, LayerSpans
from jiffy.server.profiles import landmark_name
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_LARGEST_PART: Final = 16 * 2**20


class RemoteObjects:
    """`folder` has the descriptions of layers; `objects` need not be durable: what a crash broke can be had again."""

    def __init__(self, folder: Path, stores: Stores, objects: LocalObjects, spans: LayerSpans) -> None:
        self._folder = folder
        self._stores = stores
        self._objects = objects
        self._spans = spans
        self._layers: dict[str, RemoteLayer] = {}
        self._holders: dict[Digest, RemoteLayer] = {}
        self._under_way: dict[Digest, asyncio.Task[None]] = {}

    def refresh(self) -> None:
        """Learn of layers that were described since."""
        for path in layer_paths(self._folder):
            if path.name not in self._layers:
                layer = self._layers[path.name] = load_layer(path)
                self._holders.update(dict.fromkeys(layer.places, layer))

    async def learn(self, index: Digest, first: Sequence[Digest]) -> None:
        """An image was imported, which may have stayed in its registry; it may say what starts of it want `first`."""
        await asyncio.to_thread(self.refresh)
        if first:
            digest = await asyncio.to_thread(self._objects.put, encode_profile(whole(first)))
            await self._stores.profiles.put(landmark_name(index), digest)

    def forget(self, needed: Collection[Digest], before: float) -> int:
        """Drop the descriptions of layers of which nothing is needed, and that are older than a time; gives how many."""
        count = 0
        for path in layer_paths(self._folder):
            if path.stat().st_mtime < before and not any(digest in needed for digest in load_layer(path).places):
                remove_layer(path)
                self._layers.pop(path.name, None)
                count += 1
        if count:
            self._holders = {digest: layer for layer in self._layers.values() for digest in layer.places}
        return count

    def size(self, digest: Digest) -> int | None:
        """Bytes of an object that a layer has; None when none has it."""
        layer = self._holders.get(digest)
        return place_size(layer.places[digest]) if layer is not None else None

    def chunks(self, digest: Digest) -> ChunkList | None:
        """The chunks of a large object, where its layer tells them."""
        layer = self._holders.get(digest)
        return layer.chunks.get(digest) if layer is not None else None

    async def read(self, digest: Digest, start: int, size: int) -> bytes:
        """Part of an object that a layer has, not verified. UnavailableError when the registry does not answer."""
        layer = self._holders[digest]
        pieces = list(_overlapping(layer.places[digest], start, start + size))
        spans = await self._spans.read(layer, [piece for piece, _, _ in pieces])
        return b"".join(spans[piece.start][piece.inner + first : piece.inner + last] for piece, first, last in pieces)

    async def ensure(self, digests: Iterable[Digest]) -> None:
        """Have objects here, as far as a layer has them. UnavailableError when a registry does not answer."""
        if not self._layers:
            return
        missing = [digest for digest in dict.fromkeys(digests) if not self._objects.has(digest)]
        fresh = [digest for digest in missing if digest not in self._under_way and digest in self._holders]
        for layer, found in self._by_layer(fresh):
            fetching = asyncio.ensure_future(self._fetch_from(layer, found))
            self._under_way.update(dict.fromkeys(found, fetching))
        if awaited := {self._under_way[digest] for digest in missing if digest in self._under_way}:
            await asyncio.wait(awaited)
        for fetched in awaited:
            fetched.result()

    def _by_layer(self, digests: Iterable[Digest]) -> Iterable[tuple[RemoteLayer, list[Digest]]]:
        found: dict[str, list[Digest]] = {}
        for digest in digests:
            found.setdefault(self._holders[digest].blob, []).append(digest)
        return [(self._holders[some[0]], some) for some in found.values()]

    async def _fetch_from(self, layer: RemoteLayer, digests: Sequence[Digest]) -> None:
        started = time.monotonic()
        try:
            large = [digest for digest in digests if place_size(layer.places[digest]) >= LARGE]
            small = sorted(set(digests).difference(large), key=lambda digest: layer.places[digest][0].start)
            jobs = [self._fetch_small(layer, group) for group in _groups(layer.places, small)]
            await asyncio.gather(*jobs, *[self._fetch_large(layer, digest) for digest in large])
        finally:
            logger.debug("%d objects of %s in %.3f s", len(digests), layer.blob, time.monotonic() - started)
            for digest in digests:
                del self._under_way[digest]

    async def _fetch_small(self, layer: RemoteLayer, digests: Sequence[Digest]) -> None:
        spans = await self._spans.read(layer, [piece for digest in digests for piece in layer.places[digest]])
        await asyncio.to_thread(self._store, layer, digests, spans)

    def _store(self, layer: RemoteLayer, digests: Sequence[Digest], spans: Mapping[int, bytes]) -> None:
        for digest in digests:
            with self._objects.writer(digest) as writer:
                for piece in layer.places[digest]:
                    writer.write(memoryview(spans[piece.start])[piece.inner : piece.inner + piece.size])
                writer.publish()

    async def _fetch_large(self, layer: RemoteLayer, digest: Digest) -> None:
        """Part after part: a large file is never in memory as a whole."""
        with self._objects.writer(digest) as writer:
            size = place_size(layer.places[digest])
            for start in range(0, size, _LARGEST_PART):
                part = await self.read(digest, start, min(_LARGEST_PART, size - start))
                await asyncio.to_thread(writer.write, part)
            await asyncio.to_thread(writer.publish)


def _groups(places: Mapping[Digest, Place], digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    """Neighbours together, as long as what is had for them stays small. One object's pieces mostly lie beside each other."""
    group: list[Digest] = []
    first = last = 0
    for digest in digests:
        start, end = places[digest][0].start, places[digest][-1].end
        if group and (start - last > GAP or end - first > LARGEST_REQUEST):
            yield group
            group = []
        if not group:
            first, last = start, end
        group.append(digest)
        last = max(last, end)
    if group:
        yield group


def _overlapping(place: Place, start: int, end: int) -> Iterator[tuple[Piece, int, int]]:
    """The pieces that have bytes from `start` to before `end`, with the place of those in them."""
    position = 0
    for piece in place:
        first, last = max(start, position), min(end, position + piece.size)
        if first < last:
            yield piece, first - position, last - position
        position += piece.size
