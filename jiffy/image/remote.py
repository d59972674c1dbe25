"""Layers that stay in their registry: which of their bytes each object is, and how those bytes are had.

The description of a layer is a file of its own in a data directory, so that a server that starts anew knows it; the
windows of its checkpoints are a file beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, InvalidError, UnavailableError
from jiffy.image.assembly import Assembly
from jiffy.image.estargz import (
    FOOTER_BYTES,
    LARGEST_TOC,
    TOC_DIGEST,
    ZSTD_CHECKSUM,
    ZSTD_POSITION,
    ZSTD_PREFIXES,
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
from jiffy.image.pieces import Checkpoint, Contents, Piece, Place, unpack, unpack_from
from jiffy.image.registry import Credentials, Registry
from jiffy.image.seek_index import read_seek_index, unpack_window
from jiffy.objects.base import Digest
from jiffy.objects.chunks import ChunkHash, ChunkList
from jiffy.objects.local import LocalObjects

_AT_ONCE: Final = 8
_WINDOWS: Final = ".windows"


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """`blob` is the layer's digest (sha256:...) in the repository of `reference`; the rest as in Contents. `windows`
    is a file."""

    reference: str
    blob: str
    credentials: Credentials | None
    compression: str
    places: Mapping[Digest, Place]
    chunks: Mapping[Digest, ChunkList] = field(default_factory=dict)
    checkpoints: Mapping[int, Checkpoint] = field(default_factory=dict)
    windows: Path = Path()

    @property
    def shares_spans(self) -> bool:
        """Whether a span has parts of many files."""
        return bool(self.checkpoints) or self.compression == "none"

    def span_size(self, piece: Piece) -> int:
        """The bytes of content that a span must be unpacked for, for a piece of it."""
        checkpoint = self.checkpoints.get(piece.start)
        if checkpoint is not None:
            return checkpoint.size
        return piece.end - piece.start if self.compression == "none" else piece.inner + piece.size

    def unpack(self, start: int, data: bytes, size: int) -> bytes:
        """The content of the span that begins at a byte of the blob. CorruptError when it has less."""
        checkpoint = self.checkpoints.get(start)
        if checkpoint is None:
            return unpack(data, size, self.compression)
        try:
            with self.windows.open("rb") as file:
                window = os.pread(file.fileno(), checkpoint.window_size, checkpoint.window_start)
        except FileNotFoundError:
            raise UnavailableError(f"layer {self.blob} was forgotten", hint="import its image again") from None
        return unpack_from(data, checkpoint, unpack_window(window))

    def save(self, folder: Path) -> None:
        """Readable by its owner only: it may hold a password."""
        described = {
            "reference": self.reference,
            "blob": self.blob,
            "credentials": asdict(self.credentials) if self.credentials is not None else None,
            "compression": self.compression,
            "places": {
                digest: [[piece.start, piece.end, piece.size, piece.inner] for piece in place]
                for digest, place in self.places.items()
            },
            "chunks": {
                digest: [chunks.size, chunks.chunk_size, chunks.digests.hex(), chunks.hash]
                for digest, chunks in self.chunks.items()
            },
            "checkpoints": [[start, *asdict(checkpoint).values()] for start, checkpoint in self.checkpoints.items()],
        }
        _write(folder / self.blob[-64:], json.dumps(described).encode())


def load_layer(path: Path) -> RemoteLayer:
    """What `save` wrote."""
    told = json.loads(path.read_text())
    return RemoteLayer(
        reference=told["reference"],
        blob=told["blob"],
        credentials=Credentials(**told["credentials"]) if told["credentials"] else None,
        compression=told["compression"],
        places={digest: tuple([Piece(*piece) for piece in pieces]) for digest, pieces in told["places"].items()},
        chunks={
            digest: ChunkList(size, chunk_size, bytes.fromhex(digests), ChunkHash(number))
            for digest, (size, chunk_size, digests, number) in told["chunks"].items()
        },
        checkpoints={start: Checkpoint(*rest) for start, *rest in told["checkpoints"]},
        windows=path.with_name(path.name + _WINDOWS),
    )


def layer_paths(folder: Path) -> list[Path]:
    """The descriptions in a folder."""
    return [path for path in folder.iterdir() if len(path.name) == 64]


def remove_layer(path: Path) -> None:
    """Forget a description."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + _WINDOWS).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{os.getpid()}-{path.name}")
    temporary.touch(mode=0o600)
    temporary.write_bytes(data)
    temporary.rename(path)


def can_stay(image: OciImage, indexes: Mapping[str, Descriptor]) -> bool:
    """Whether all layers can be read in parts: they say so themselves, or have a seek index."""
    return bool(image.layers) and all(_is_partial(layer) or layer.digest in indexes for layer in image.layers)


def is_partial(image: OciImage) -> bool:
    """Whether all layers say themselves that they can be read in parts."""
    return can_stay(image, {})


def _is_partial(layer: Descriptor) -> bool:
    return TOC_DIGEST in layer.annotations or bool(_zstd_note(layer, ZSTD_POSITION))


def _zstd_note(layer: Descriptor, name: str) -> str:
    """What a layer in zstd:chunked form says of its table of contents; empty for nothing."""
    return next(
        (layer.annotations[prefix + name] for prefix in ZSTD_PREFIXES if prefix + name in layer.annotations), ""
    )


async def import_lazily(
    image: OciImage,
    registry: Registry,
    credentials: Credentials | None,
    objects: LocalObjects,
    folder: Path,
    indexes: Mapping[str, Descriptor],
) -> Imported:
    """Read tables of contents and seek indexes only. The image's files stay where they are; `folder` gets the
    descriptions of layers."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(layer: Descriptor) -> Contents:
        async with gate:
            return await _read_layer(registry, layer, indexes)

    tables = await asyncio.gather(*[read(layer) for layer in image.layers])
    for layer, contents in zip(image.layers, tables, strict=True):
        await asyncio.to_thread(describe_layer, str(registry.reference), layer.digest, credentials, contents, folder)
    index, files, size = await asyncio.to_thread(_assemble, tables, objects)
    first = tuple(dict.fromkeys(digest for contents in tables for digest in contents.first))
    return Imported(index, dict(image.config), image.digest, image.names, files, size, first)


def describe_layer(
    reference: str, blob: str, credentials: Credentials | None, contents: Contents, folder: Path
) -> None:
    """Write the description of a layer, its windows first: who finds the one finds the other."""
    windows = folder / (blob[-64:] + _WINDOWS)
    if contents.windows:
        _write(windows, contents.windows)
    RemoteLayer(
        reference,
        blob,
        credentials,
        contents.compression,
        contents.places,
        contents.chunks,
        contents.checkpoints,
        windows,
    ).save(folder)


async def _read_layer(registry: Registry, layer: Descriptor, indexes: Mapping[str, Descriptor]) -> Contents:
    if position := _zstd_note(layer, ZSTD_POSITION):
        return await _read_zstd(registry, layer, position)
    if TOC_DIGEST not in layer.annotations:
        return await _read_seek_index(registry, layer, indexes[layer.digest])
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


async def _read_seek_index(registry: Registry, layer: Descriptor, described: Descriptor) -> Contents:
    data = await registry.blob(described, LARGEST_TOC)
    index = await asyncio.to_thread(read_seek_index, data)
    if (index.layer, index.layer_size) != (layer.digest, layer.size):
        raise CorruptError(f"the seek index of layer {layer.digest} is of another")
    return await asyncio.to_thread(index.contents)


async def _read_zstd(registry: Registry, layer: Descriptor, position: str) -> Contents:
    try:
        start, size, *_ = [int(number) for number in position.split(":")]
    except ValueError:
        raise InvalidError(f"layer {layer.digest} says no place of its table of contents") from None
    if not 0 < start < start + size <= layer.size or size > LARGEST_TOC:
        raise InvalidError(f"layer {layer.digest} says no place of its table of contents")
    data = await registry.read(layer.digest, start, size)
    _check(layer, f"sha256:{hashlib.sha256(data).hexdigest()}", _zstd_note(layer, ZSTD_CHECKSUM))
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
