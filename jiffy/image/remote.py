"""Layers that stay in their registry: which of their bytes each object is, and how those bytes are had.

The description of a layer is a file of its own in a data directory, so that a server that starts anew knows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, InvalidError
from jiffy.image.assembly import Assembly
from jiffy.image.estargz import (
    FOOTER_BYTES,
    LARGEST_TOC,
    TOC_DIGEST,
    ZSTD_CHECKSUM,
    ZSTD_POSITION,
    Contents,
    Piece,
    Place,
    find_table,
    read_contents,
    read_gzip_table,
    read_zstd_table,
    table_digest,
)
from jiffy.image.importing import Imported
from jiffy.image.index import encode_index
from jiffy.image.manifest import Descriptor
from jiffy.image.oci import OciImage
from jiffy.image.registry import Credentials, Registry
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """`blob` is the layer's digest (sha256:...) in the repository of `reference`."""

    reference: str
    blob: str
    credentials: Credentials | None
    places: Mapping[Digest, Place]

    def save(self, folder: Path) -> None:
        """Readable by its owner only: it may hold a password."""
        compression = next((place.compression for place in self.places.values()), "gzip")
        described = {
            "reference": self.reference,
            "blob": self.blob,
            "credentials": asdict(self.credentials) if self.credentials is not None else None,
            "compression": compression,
            "places": {
                digest: [[piece.start, piece.end, piece.size, piece.inner] for piece in place.pieces]
                for digest, place in self.places.items()
            },
        }
        temporary = folder / f"{os.getpid()}-{self.blob[-64:]}"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(described))
        temporary.rename(folder / self.blob[-64:])


def load_layer(path: Path) -> RemoteLayer:
    """What `save` wrote."""
    told = json.loads(path.read_text())
    credentials = Credentials(**told["credentials"]) if told["credentials"] else None
    places = {
        digest: Place(tuple([Piece(*piece) for piece in pieces]), told["compression"])
        for digest, pieces in told["places"].items()
    }
    return RemoteLayer(told["reference"], told["blob"], credentials, places)


def can_stay(image: OciImage) -> bool:
    """Whether all layers say that they can be read in parts."""
    return bool(image.layers) and all(_is_partial(layer) for layer in image.layers)


def _is_partial(layer: Descriptor) -> bool:
    return TOC_DIGEST in layer.annotations or ZSTD_POSITION in layer.annotations


async def import_lazily(
    image: OciImage, registry: Registry, credentials: Credentials | None, objects: LocalObjects, folder: Path
) -> Imported:
    """Read the tables of contents only. The image's files stay where they are; `folder` gets the descriptions of layers."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(layer: Descriptor) -> Contents:
        async with gate:
            return await _read_table(registry, layer)

    tables = await asyncio.gather(*[read(layer) for layer in image.layers])
    for layer, contents in zip(image.layers, tables, strict=True):
        RemoteLayer(str(registry.reference), layer.digest, credentials, contents.places).save(folder)
    index, files, size = await asyncio.to_thread(_assemble, tables, objects)
    first = tuple(dict.fromkeys(digest for contents in tables for digest in contents.first))
    return Imported(index, dict(image.config), image.digest, image.names, files, size, first)


async def _read_table(registry: Registry, layer: Descriptor) -> Contents:
    if (position := layer.annotations.get(ZSTD_POSITION)) is not None:
        return await _read_zstd(registry, layer, position)
    if layer.size <= FOOTER_BYTES:
        raise InvalidError(f"layer {layer.digest} is too short for a table of contents")
    footer = await registry.read(layer.digest, layer.size - FOOTER_BYTES, FOOTER_BYTES)
    start = find_table(footer)
    if not 0 < start < layer.size or layer.size - start > LARGEST_TOC:
        raise CorruptError(f"layer {layer.digest} has no table of contents where it should be")
    data = await registry.read(layer.digest, start, layer.size - start)
    text = await asyncio.to_thread(read_gzip_table, data)
    _check(layer, table_digest(text), layer.annotations[TOC_DIGEST])
    return await asyncio.to_thread(read_contents, text, start, "gzip")


async def _read_zstd(registry: Registry, layer: Descriptor, position: str) -> Contents:
    try:
        start, size, *_ = [int(number) for number in position.split(":")]
    except ValueError:
        raise InvalidError(f"layer {layer.digest} says no place of its table of contents") from None
    if not 0 < start < start + size <= layer.size or size > LARGEST_TOC:
        raise InvalidError(f"layer {layer.digest} says no place of its table of contents")
    data = await registry.read(layer.digest, start, size)
    _check(layer, f"sha256:{hashlib.sha256(data).hexdigest()}", layer.annotations.get(ZSTD_CHECKSUM, ""))
    text = await asyncio.to_thread(read_zstd_table, data)
    return await asyncio.to_thread(read_contents, text, start, "zstd")


def _check(layer: Descriptor, digest: str, expected: str) -> None:
    if digest != expected:
        raise CorruptError(f"layer {layer.digest} has a wrong table of contents", why=f"its digest is {digest}")


def _assemble(tables: Iterable[Contents], objects: LocalObjects) -> tuple[Digest, int, int]:
    assembly = Assembly()
    for contents in tables:
        assembly.add(contents.change)
    entries = list(assembly.entries())
    return objects.put(encode_index(entries)), len(entries), sum(entry.size for entry in entries)
