"""Objects that are in layers of registries only: fetched by ranged requests when somebody wants them, verified, and
kept. Parts of large ones are passed on to who asks for them, who keeps and verifies them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

_LARGEST_PART: Final = 16 * 2**20
_AT_ONCE: Final = 6
_MOST_AT_ONCE: Final = 12
"""Fetches under way, when somebody waits for one object or a few."""

_FEW: Final = 64


class RemoteObjects:
    """`folder` has the descriptions of layers; `objects` need not be durable: what a crash broke can be had again."""

    def __init__(self, folder: Path, stores: Stores, objects: LocalObjects, spans: LayerSpans) -> None:
        self._folder = folder
        self._stores = stores
        self._objects = objects
        self._spans = spans
        self._layers: dict[str, _Held] = {}
        self._holders: dict[Digest, _Held] = {}
        self._wanted: OrderedDict[Digest, bool] = OrderedDict()
        self._coming: dict[Digest, asyncio.Future[None]] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def refresh(self) -> None:
        """Learn of layers that were described since, or anew: another login may be needed, or another place."""
        for path in layer_paths(self._folder):
            described_at = path.stat().st_mtime_ns
            known = self._layers.get(path.name)
            if known is None or known.described_at != described_at:
                layer = load_layer(path)
                held = self._layers[path.name] = _Held(layer, _Order(layer.places), described_at)
                self._holders.update(dict.fromkeys(layer.places, held))

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
            self._holders = {digest: held for held in self._layers.values() for digest in held.layer.places}
        return count

    def size(self, digest: Digest) -> int | None:
        """Bytes of an object that a layer has; None when none has it."""
        held = self._holders.get(digest)
        return place_size(held.layer.places[digest]) if held is not None else None

    def chunks(self, digest: Digest) -> ChunkList | None:
        """The chunks of a large object, where its layer tells them."""
        held = self._holders.get(digest)
        return held.layer.chunks.get(digest) if held is not None else None

    async def read(self, digest: Digest, start: int, size: int) -> bytes:
        """Part of an object that a layer has, not verified. UnavailableError when the registry does not answer."""
        layer = self._holders[digest].layer
        pieces = list(_overlapping(layer.places[digest], start, start + size))
        spans = await self._spans.read(layer, [piece for piece, _, _ in pieces])
        return b"".join(spans[piece.start][piece.inner + first : piece.inner + last] for piece, first, last in pieces)

    async def ensure(self, digests: Sequence[Digest]) -> None:
        """Have objects here, as far as a layer has them; few come before many. UnavailableError when a registry does not
        answer."""
        if not self._holders:
            return
        is_urgent = len(digests) <= _FEW
        awaited = []
        for digest in reversed(dict.fromkeys(digests)) if is_urgent else dict.fromkeys(digests):
            if digest in self._coming or (digest in self._holders and not self._objects.has(digest)):
                awaited.append(self._want(digest, is_urgent))
        self._begin()
        if awaited:
            await asyncio.wait(awaited)
        for fetched in awaited:
            fetched.result()

    def _want(self, digest: Digest, is_urgent: bool) -> asyncio.Future[None]:
        if digest not in self._coming:
            self._coming[digest] = asyncio.get_running_loop().create_future()
            self._wanted[digest] = is_urgent
        if is_urgent and digest in self._wanted:
            self._wanted[digest] = True
            self._wanted.move_to_end(digest, last=False)
        return self._coming[digest]

    def _begin(self) -> None:
        """Fetch what was wanted first, with all neighbours that are wanted too, as long as not too much is under way.
        So what many ask for in turns comes by few requests."""
        while self._wanted:
            digest, is_urgent = next(iter(self._wanted.items()))
            if len(self._fetches) >= (_MOST_AT_ONCE if is_urgent else _AT_ONCE):
                return
            held = self._holders.get(digest)
            if held is None:  # forgotten meanwhile
                del self._wanted[digest]
                self._coming.pop(digest).set_result(None)
                continue
            together = held.order.around(digest, self._wanted)
            for each in together:
                del self._wanted[each]
            fetch = asyncio.ensure_future(self._fetch(held.layer, together))
            self._fetches.add(fetch)
            fetch.add_done_callback(self._end)

    def _end(self, fetch: asyncio.Task[None]) -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled():
            self._begin()

    async def close(self) -> None:
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    async def _fetch(self, layer: RemoteLayer, digests: Sequence[Digest]) -> None:
        failure: Exception | None = None
        try:
            if place_size(layer.places[digests[0]]) >= LARGE:
                await self._fetch_large(layer, digests[0])
            else:
                spans = await self._spans.read(layer, [piece for digest in digests for piece in layer.places[digest]])
                await asyncio.to_thread(self._store, layer, digests, spans)
        except Exception as error:
            failure = error
        for digest in digests:
            coming = self._coming.pop(digest)
            if failure is None:
                coming.set_result(None)
            else:
                coming.set_exception(failure)
                coming.exception()

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


class _Order:
    """The objects of a layer in the order of their places. Large ones stand alone."""

    def __init__(self, places: Mapping[Digest, Place]) -> None:
        self._places = places
        small = [digest for digest, place in places.items() if place_size(place) < LARGE]
        self._digests = sorted(small, key=lambda digest: places[digest][0].start)
        self._ranks = {digest: rank for rank, digest in enumerate(self._digests)}

    def around(self, digest: Digest, wanted: Collection[Digest]) -> list[Digest]:
        """An object with those beside it that are wanted too, as far as one request may go."""
        found = [digest]
        if digest not in self._ranks:
            return found
        first, last = self._span(digest)
        for step in (1, -1):
            rank = self._ranks[digest] + step
            while 0 <= rank < len(self._digests):
                start, end = self._span(self._digests[rank])
                gap = start - last if step > 0 else first - end
                if gap > GAP or max(last, end) - min(first, start) > LARGEST_REQUEST:
                    break
                if self._digests[rank] in wanted:
                    found.append(self._digests[rank])
                    first, last = min(first, start), max(last, end)
                rank += step
        return found

    def _span(self, digest: Digest) -> tuple[int, int]:
        place = self._places[digest]
        return place[0].start, place[-1].end


@dataclass(frozen=True, slots=True)
class _Held:
    """A layer that is known. `described_at`: the time of its description, in nanoseconds."""

    layer: RemoteLayer
    order: _Order
    described_at: int


def _overlapping(place: Place, start: int, end: int) -> Iterator[tuple[Piece, int, int]]:
    """The pieces that have bytes from `start` to before `end`, with the place of those in them."""
    position = 0
    for piece in place:
        first, last = max(start, position), min(end, position + piece.size)
        if first < last:
            yield piece, first - position, last - position
        position += piece.size
