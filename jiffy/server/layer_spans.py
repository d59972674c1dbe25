"""Spans of layers in registries, unpacked. One that many files share is fetched once for all who want it at a time,
and the last few are kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jiffy.errors import JiffyError, UnavailableError
from jiffy.image.pieces import Piece
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Credentials, Registry
from jiffy.image.remote import RemoteLayer

LARGEST_REQUEST: Final = 4 * 2**20
GAP: Final = 64 * 2**10
"""Bytes that nobody wants, for which another request would cost more."""

_AT_ONCE: Final = 16
_KEPT_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Span:
    """Bytes of a blob, and how many bytes of what they unpack to are wanted."""

    start: int
    end: int
    size: int


class LayerSpans:
    """`mirrors` are addresses that are asked in place of a registry's host. Connections and logins are kept until
    `close`."""

    def __init__(self, mirrors: Mapping[str, str]) -> None:
        self._mirrors = mirrors
        self._registries: dict[tuple[str, Credentials | None], Registry] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._shared: OrderedDict[tuple[str, int], asyncio.Future[bytes]] = OrderedDict()
        self._shared_bytes = 0

    async def close(self) -> None:
        for registry in self._registries.values():
            await registry.__aexit__(None, None, None)
        self._registries.clear()

    async def read(self, layer: RemoteLayer, pieces: Iterable[Piece]) -> dict[int, bytes]:
        """What the spans of some pieces hold, by their starts. UnavailableError when the registry does not answer,
        CorruptError when it gives something else."""
        wanted: dict[int, _Span] = {}
        for piece in pieces:
            before = wanted.get(piece.start)
            size = layer.span_size(piece)
            wanted[piece.start] = _Span(piece.start, piece.end, max(size, before.size if before is not None else 0))
        if layer.shares_spans:
            return await self._read_shared(layer, wanted)
        return await self._fetch_all(layer, wanted.values())

    async def _read_shared(self, layer: RemoteLayer, wanted: Mapping[int, _Span]) -> dict[int, bytes]:
        """Failures of a fetch that somebody else began are theirs and ours."""
        loop = asyncio.get_running_loop()
        promises = {start: self._shared.get((layer.blob, start)) for start in wanted}
        new = {start: loop.create_future() for start, promise in promises.items() if promise is None}
        self._shared.update({(layer.blob, start): promise for start, promise in new.items()})
        try:
            fetched = await self._fetch_all(layer, [wanted[start] for start in new])
        except BaseException as error:
            for start, promise in new.items():
                self._shared.pop((layer.blob, start), None)
                promise.set_exception(error if isinstance(error, JiffyError) else UnavailableError("broken off"))
                promise.exception()
            raise
        for start, promise in new.items():
            promise.set_result(fetched[start])
        found = {start: await asyncio.shield(promise or new[start]) for start, promise in promises.items()}
        self._keep([(layer.blob, start) for start in wanted], sum(map(len, fetched.values())))
        return found

    def _keep(self, used: Sequence[tuple[str, int]], more: int) -> None:
        """Drop what was not used for the longest time, once there is too much."""
        for key in used:
            if key in self._shared:
                self._shared.move_to_end(key)
        self._shared_bytes += more
        while self._shared_bytes > _KEPT_BYTES:
            key, promise = next(iter(self._shared.items()))
            if not promise.done():
                return
            del self._shared[key]
            self._shared_bytes -= len(promise.result())

    async def _fetch_all(self, layer: RemoteLayer, spans: Iterable[_Span]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for part in await asyncio.gather(*[self._fetch(layer, run) for run in _runs(spans)]):
            found.update(part)
        return found

    async def _fetch(self, layer: RemoteLayer, run: Sequence[_Span]) -> dict[int, bytes]:
        """Neighbours, by one request."""
        start, end = run[0].start, max(span.end for span in run)
        async with self._gate:
            registry = await self._registry(layer)
            try:
                data = await registry.read(layer.blob, start, end - start)
            except JiffyError as error:
                raise UnavailableError("part of a layer cannot be fetched", why=str(error)) from error
            return await asyncio.to_thread(_unpack, layer, run, data)

    async def _registry(self, layer: RemoteLayer) -> Registry:
        key = (layer.reference, layer.credentials)
        if key not in self._registries:
            registry = Registry(parse_reference(layer.reference), layer.credentials, self._mirrors)
            self._registries[key] = registry
            await registry.__aenter__()
        return self._registries[key]


def _unpack(layer: RemoteLayer, run: Sequence[_Span], data: bytes) -> dict[int, bytes]:
    first = run[0].start
    return {
        span.start: layer.unpack(span.start, data[span.start - first : span.end - first], span.size) for span in run
    }


def _runs(spans: Iterable[_Span]) -> Iterator[list[_Span]]:
    """Neighbours together, as long as the request stays small."""
    run: list[_Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if run and (span.start - run[-1].end > GAP or span.end - run[0].start > LARGEST_REQUEST):
            yield run
            run = []
        run.append(span)
    if run:
        yield run
