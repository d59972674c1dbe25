"""Images written for others: pushed to a registry, or saved as an OCI layout or an archive of Docker."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

import zstandard

from jiffy.image.archive_writer import write_archive
from jiffy.image.index import Index
from jiffy.image.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from jiffy.objects.base import Digest

_CHUNK: Final = 2**20
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_PLAIN: Final = OCI_LAYER.removesuffix("+gzip")
COMPRESSIONS: Final = ("gzip", "zstd", "none")


@dataclass(frozen=True, slots=True)
class Exportable:
    """An image as the server tells it: digests of indexes, bottom first, and the `config` part of its configuration."""

    layers: tuple[Digest, ...]
    config: Mapping[str, Any]
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer written to a file; `diff_id` is the digest of the archive before compression."""

    path: Path
    media_type: str
    digest: str
    diff_id: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size, self.annotations)


class Target(Protocol):
    """Where an image goes."""

    async def add(self, descriptor: Descriptor, content: Path | bytes) -> None:
        """A blob; nothing happens when it is there."""

    async def finish(self, manifest: bytes, descriptor: Descriptor, config: bytes, layers: Sequence[LayerFile]) -> None:
        """All blobs were added."""


def write_layer(index: Index, find: Callable[[Digest], Path], path: Path, compression: str) -> LayerFile:
    """One index as one layer. The same index always gives the same bytes."""
    media_type = _PLAIN if compression == "none" else f"{_PLAIN}+{compression}"
    with path.open("wb") as file:
        outer = _Hashing(file)
        with _compress(outer, compression) as compressed:
            inner = _Hashing(compressed)
            write_archive(index, find, cast(BinaryIO, inner))
    return LayerFile(path, media_type, outer.digest, inner.digest, path.stat().st_size)


async def export_image(
    image: Exportable,
    load: Callable[[Digest], Index],
    write: Callable[[Index, Path], LayerFile],
    folder: Path,
    target: Target,
) -> str:
    """Write all layers to files of a folder and send them on; gives the manifest's digest. An image keeps its layers."""
    layers = []
    for number, digest in enumerate(image.layers):
        index = await asyncio.to_thread(load, digest)
        layer = await asyncio.to_thread(write, index, folder / f"layer-{number}")
        await target.add(layer.descriptor, layer.path)
        layers.append(layer)
    config = _encode(_describe_config(image, layers))
    described = Descriptor(OCI_CONFIG, digest_of(config), len(config))
    await target.add(described, config)
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _describe(described),
            "layers": [_describe(layer.descriptor) for layer in layers],
        }
    )
    descriptor = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest))
    await target.finish(manifest, descriptor, config, layers)
    return descriptor.digest


def _describe_config(image: Exportable, layers: Sequence[LayerFile]) -> dict[str, Any]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.created_at))
    return {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": dict(image.config),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "jiffy"} for _ in layers],
    }


class Layout:
    """An OCI layout in a folder, which may hold other images already."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    async def add(self, descriptor: Descriptor, content: Path | bytes) -> None:
        path = self._folder / "blobs" / descriptor.digest.replace(":", "/")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_place, path, content)

    async def finish(self, manifest: bytes, descriptor: Descriptor, config: bytes, layers: Sequence[LayerFile]) -> None:
        await self.add(descriptor, manifest)
        known = self._folder / "index.json"
        listed = json.loads(known.read_text())["manifests"] if known.exists() else []
        notes = {"org.opencontainers.image.ref.name": self._name} if self._name else {}
        entry = {**_describe(descriptor), "annotations": notes, "platform": {"architecture": "amd64", "os": "linux"}}
        kept = [each for each in listed if (each.get("annotations") or {}) != notes]
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [*kept, entry]}
        _place(self._folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _place(known, _encode(index))


class DockerArchive:
    """A file as `docker load` takes it. Its layers are not compressed."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    async def add(self, descriptor: Descriptor, content: Path | bytes) -> None:
        """All is written at the end: an archive cannot be added to piece by piece."""

    async def finish(self, manifest: bytes, descriptor: Descriptor, config: bytes, layers: Sequence[LayerFile]) -> None:
        await asyncio.to_thread(self._write, config, layers)

    def _write(self, config: bytes, layers: Sequence[LayerFile]) -> None:
        temporary = self._path.with_name(f"{self._path.name}.part")
        config_name = f"{digest_of(config).partition(':')[2]}.json"
        names = [f"{layer.diff_id.partition(':')[2]}/layer.tar" for layer in layers]
        listed = [{"Config": config_name, "RepoTags": [self._name] if self._name else [], "Layers": names}]
        with tarfile.open(temporary, "w") as archive:
            _add_bytes(archive, config_name, config)
            for layer, name in zip(layers, names, strict=True):
                archive.add(layer.path, name)
            _add_bytes(archive, "manifest.json", _encode(listed))
        temporary.rename(self._path)


def pack_layout(folder: Path, path: Path) -> None:
    """A layout as one file."""
    temporary = path.with_name(f"{path.name}.part")
    with tarfile.open(temporary, "w") as archive:
        for each in sorted(folder.iterdir()):
            archive.add(each, each.name)
    temporary.rename(path)


async def chunks_of(content: Path | bytes) -> AsyncIterator[bytes]:
    """A file or bytes, a piece at a time."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _describe(descriptor: Descriptor) -> dict[str, Any]:
    described: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        described["annotations"] = dict(descriptor.annotations)
    return described


def _encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _place(path: Path, content: Path | bytes) -> None:
    temporary = path.with_name(f"{path.name}.part")
    if isinstance(content, bytes):
        temporary.write_bytes(content)
    else:
        with content.open("rb") as source, temporary.open("wb") as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
    temporary.rename(path)


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


class _Hashing:
    """Passes on what is written, and knows its digest."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._stream.write(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


def _compress(stream: _Hashing, compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=cast(BinaryIO, stream), mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(cast(BinaryIO, stream), closefd=False)
    return nullcontext(stream)
