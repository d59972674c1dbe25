"""Objects that are in layers of registries only: fetched by ranged requests when somebody wants them, verified, and kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError, UnavailableError
from jiffy.image.estargz import Place, unpack_piece
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Registry
from jiffy.image.remote import RemoteLayer, load_layer
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import encode_profile, whole
from jiffy.server.profiles import landmark_name
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_GAP: Final = 64 * 2**10
_SPAN: Final = 4 * 2**20
_AT_ONCE: Final = 8


@dataclass(slots=True)
class _Wanted:
    """Objects whose pieces lie beside each other in a blob: one request brings them."""

    start: int
    end: int
    objects: list[tuple[Digest, Place]] = field(default_factory=list)


class RemoteObjects:
    """`folder` has the descriptions of layers; `mirrors` are addresses that are asked in place of a registry's host."""

    def __init__(self, folder: Path, stores: Stores, objects: LocalObjects, mirrors: Mapping[str, str]) -> None:
        self._folder = folder
        self._stores = stores
        self._objects = objects
        self._mirrors = mirrors
        self._layers: dict[str, RemoteLayer] = {}
        self._under_way: dict[Digest, asyncio.Future[None]] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def refresh(self) -> None:
        """Learn of layers that were described since."""
        for path in self._folder.iterdir():
            if len(path.name) == 64 and path.name not in self._layers:
                self._layers[path.name] = load_layer(path)

    async def learn(self, index: Digest, first: Sequence[Digest]) -> None:
        """An image was imported, which may have stayed in its registry; it may say what starts of it want `first`."""
        await asyncio.to_thread(self.refresh)
        if first:
            digest = await asyncio.to_thread(self._objects.put, encode_profile(whole(first)))
            await self._stores.profiles.put(landmark_name(index), digest)

    async def ensure(self, digests: Iterable[Digest]) -> None:
        """Have objects here, as far as a layer has them. UnavailableError when a registry does not answer."""
        if not self._layers:
            return
        missing = [digest for digest in dict.fromkeys(digests) if not self._objects.has(digest)]
        coming = [self._under_way[digest] for digest in missing if digest in self._under_way]
        fresh = [digest for digest in missing if digest not in self._under_way]
        jobs = [self._fetch_from(layer, found) for layer, found in self._find(fresh)]
        failures = [each for each in await asyncio.gather(*jobs, *coming, return_exceptions=True) if each is not None]
        for failure in failures:
            if isinstance(failure, BaseException):
                raise failure

    def _find(self, digests: Sequence[Digest]) -> list[tuple[RemoteLayer, list[Digest]]]:
        left = set(digests)
        found = []
        for layer in self._layers.values():
            here = [digest for digest in left if digest in layer.places]
            if here:
                left.difference_update(here)
                found.append((layer, here))
        return found

    async def _fetch_from(self, layer: RemoteLayer, digests: Sequence[Digest]) -> None:
        loop = asyncio.get_running_loop()
        promises = {digest: loop.create_future() for digest in digests}
        self._under_way.update(promises)
        try:
            async with Registry(parse_reference(layer.reference), layer.credentials, self._mirrors) as registry:
                spans = _group(layer, digests)
                await asyncio.gather(*[self._fetch_span(registry, layer, span) for span in spans])
        finally:
            for digest, promise in promises.items():
                del self._under_way[digest]
                promise.set_result(None)

    async def _fetch_span(self, registry: Registry, layer: RemoteLayer, span: _Wanted) -> None:
        async with self._gate:
            if len(span.objects) == 1:
                await self._fetch_pieces(registry, layer, *span.objects[0])
                return
            data = await self._read(registry, layer, span.start, span.end)
            await asyncio.to_thread(self._store, data, span)

    async def _fetch_pieces(self, registry: Registry, layer: RemoteLayer, digest: Digest, place: Place) -> None:
        """One after the other: a large file is never in memory as a whole."""
        with self._objects.writer(digest) as writer:
            for piece in place.pieces:
                data = await self._read(registry, layer, piece.start, piece.end)
                part = await asyncio.to_thread(unpack_piece, data, piece, place.compression)
                await asyncio.to_thread(writer.write, part)
            await asyncio.to_thread(writer.publish)

    async def _read(self, registry: Registry, layer: RemoteLayer, start: int, end: int) -> bytes:
        try:
            return await registry.read(layer.blob, start, end - start)
        except JiffyError as error:
            raise UnavailableError("part of a layer cannot be fetched", why=str(error)) from error

    def _store(self, data: bytes, span: _Wanted) -> None:
        for digest, place in span.objects:
            with self._objects.writer(digest) as writer:
                for piece in place.pieces:
                    part = data[piece.start - span.start : piece.end - span.start]
                    writer.write(unpack_piece(part, piece, place.compression))
                writer.publish()


def _group(layer: RemoteLayer, digests: Sequence[Digest]) -> list[_Wanted]:
    """Neighbours together, as long as the request stays small. One object's pieces mostly lie beside each other."""
    spans: list[_Wanted] = []
    places = sorted([(layer.places[digest], digest) for digest in digests], key=lambda pair: pair[0].pieces[0].start)
    for place, digest in places:
        start, end = place.pieces[0].start, place.pieces[-1].end
        last = spans[-1] if spans else None
        if last is not None and start - last.end <= _GAP and end - last.start <= _SPAN:
            last.end = max(last.end, end)
            last.objects.append((digest, place))
        else:
            spans.append(_Wanted(start, end, [(digest, place)]))
    return spans
