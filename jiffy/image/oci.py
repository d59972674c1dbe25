"""Images of the OCI and of Docker, wherever they lie: in a registry, a layout, or an archive of `docker save`."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from jiffy.errors import CorruptError, InvalidError, NotFoundError
from jiffy.image.manifest import (
    LARGEST_CONFIG,
    LARGEST_MANIFEST,
    OCI_LAYER,
    Descriptor,
    Manifest,
    Platform,
    choose_manifest,
    is_list,
    read_descriptor,
    read_diff_ids,
    read_json,
    read_manifest,
)
from jiffy.image.reference import Reference
from jiffy.image.registry import Credentials, Registry

_CHUNK: Final = 2**20
_PLAIN_LAYER: Final = OCI_LAYER.removesuffix("+gzip")
_DEEPEST_LIST: Final = 4


class Blobs(Protocol):
    """Where an image's blobs are read from."""

    async def blob(self, descriptor: Descriptor, most: int) -> bytes:
        """A small one, whole and verified."""

    def stream(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """Its bytes, not verified."""


@dataclass(frozen=True, slots=True)
class OciImage:
    """One image for one platform. `digest` is its manifest's, empty where it has none; `diff_ids` are the digests of the
    uncompressed layers; `names` are references that it is known by."""

    blobs: Blobs
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    names: tuple[str, ...] = ()


@asynccontextmanager
async def open_registry(
    reference: Reference, platform: Platform, credentials: Credentials | None, mirrors: Mapping[str, str]
) -> AsyncIterator[OciImage]:
    """An image of a registry."""
    async with Registry(reference, credentials, mirrors) as registry:
        fetched = await registry.manifest(reference.wanted)
        value = read_json(fetched.data, "the manifest")
        for _ in range(_DEEPEST_LIST):
            if not is_list(value):
                break
            fetched = await registry.manifest(choose_manifest(value, platform).digest)
            value = read_json(fetched.data, "the manifest")
        yield await _describe(registry, read_manifest(value), fetched.digest, (str(reference),))


@asynccontextmanager
async def open_layout(path: Path, name: str, platform: Platform) -> AsyncIterator[OciImage]:
    """An image of an OCI layout: a folder, or a tar of one. `name` chooses where there are several."""
    async with _files(path) as files:
        blobs = _Layout(files)
        value = read_json(files.read("index.json", LARGEST_MANIFEST), "index.json")
        digest = ""
        for _ in range(_DEEPEST_LIST):
            if not is_list(value) and digest:
                break
            chosen = _choose_named(value, name) if not digest else None
            chosen = chosen or choose_manifest(value, platform)
            digest = chosen.digest
            value = read_json(await blobs.blob(chosen, LARGEST_MANIFEST), "the manifest")
        yield await _describe(blobs, read_manifest(value), digest, (name,) if name else ())


@asynccontextmanager
async def open_docker_archive(path: Path, name: str) -> AsyncIterator[OciImage]:
    """An image of an archive that `docker save` wrote. `name` chooses where there are several."""
    async with _files(path) as files:
        listed = read_json(b'{"images":' + files.read("manifest.json", LARGEST_MANIFEST) + b"}", "manifest.json")
        images = [each for each in listed["images"] if isinstance(each, dict)]
        image = _choose_saved(images, name)
        config = read_json(files.read(str(image.get("Config")), LARGEST_CONFIG), "the configuration", LARGEST_CONFIG)
        names = [str(each) for each in image.get("Layers") or []]
        diff_ids = read_diff_ids(config, len(names))
        layers = tuple(
            [Descriptor(_PLAIN_LAYER, digest, files.size(each)) for each, digest in zip(names, diff_ids, strict=True)]
        )
        places = dict(zip(diff_ids, names, strict=True))
        tags = tuple([str(tag) for tag in image.get("RepoTags") or []])
        yield OciImage(_Saved(files, places), "", config, layers, tuple(diff_ids), tags)


async def _describe(blobs: Blobs, manifest: Manifest, digest: str, names: tuple[str, ...]) -> OciImage:
    config = read_json(await blobs.blob(manifest.config, LARGEST_CONFIG), "the configuration", LARGEST_CONFIG)
    diff_ids = read_diff_ids(config, len(manifest.layers))
    return OciImage(blobs, digest, config, manifest.layers, tuple(diff_ids), names)


def _choose_named(value: Mapping[str, Any], name: str) -> Descriptor | None:
    manifests = [each for each in value.get("manifests") or [] if isinstance(each, dict)]
    named = {(each.get("annotations") or {}).get("org.opencontainers.image.ref.name", ""): each for each in manifests}
    if name and name in named:
        return read_descriptor(named[name])
    if name:
        raise NotFoundError(
            f"the layout has no image {name}", why=f"it has {', '.join(filter(None, named)) or 'no names'}"
        )
    if len(manifests) > 1 and not any(each.get("platform") for each in manifests):
        raise InvalidError("the layout has several images", hint=f"name one of {', '.join(filter(None, named))}")
    return None


def _choose_saved(images: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for image in images:
        if name in (image.get("RepoTags") or []):
            return image
    if name or not images:
        raise NotFoundError(f"the archive has no image {name}".rstrip())
    if len(images) > 1:
        tags = [str(tag) for image in images for tag in image.get("RepoTags") or []]
        raise InvalidError("the archive has several images", hint=f"name one of {', '.join(tags)}")
    return images[0]


class _Files(Protocol):
    """Files by name, of a folder or an archive."""

    def read(self, name: str, most: int) -> bytes: ...
    def open(self, name: str) -> AbstractContextManager[BinaryIO]: ...
    def size(self, name: str) -> int: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, name: str, most: int) -> bytes:
        with self.open(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise InvalidError(f"{name} is too large", why=f"the most is {most} bytes")
        return data

    def open(self, name: str) -> BinaryIO:
        return self._find(name).open("rb")

    def size(self, name: str) -> int:
        return self._find(name).stat().st_size

    def _find(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root) or not path.is_file():
            raise NotFoundError(f"{self._root} has no {name}", hint="is it an image?")
        return path


class _Archive:
    """A tar is read through once, for where its members are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with tarfile.open(path) as tar:
                self._members = {member.name.removeprefix("./"): member for member in tar.getmembers()}
        except (tarfile.TarError, ArithmeticError, EOFError, ValueError, OSError) as error:
            raise InvalidError(f"{path} is no archive", why=str(error)) from error

    def read(self, name: str, most: int) -> bytes:
        if self.size(name) > most:
            raise InvalidError(f"{name} is too large", why=f"the most is {most} bytes")
        with self.open(name) as file:
            return file.read(most)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """By a reader of its own: several layers are read at a time."""
        with tarfile.open(self._path) as tar:
            file = tar.extractfile(self._find(name))
            assert file is not None
            yield cast(BinaryIO, file)

    def size(self, name: str) -> int:
        return self._find(name).size

    def _find(self, name: str) -> tarfile.TarInfo:
        member = self._members.get(name.removeprefix("./"))
        for _ in range(8):
            if member is None or not (member.issym() or member.islnk()):
                break
            target = member.linkname
            if member.issym():
                target = str(Path(member.name).parent / target)
            member = self._members.get(_normal(target))
        if member is None or not member.isreg():
            raise NotFoundError(f"{self._path} has no {name}", hint="is it an image?")
        return member


def _normal(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


@asynccontextmanager
async def _files(path: Path) -> AsyncIterator[_Files]:
    if path.is_dir():
        yield _Folder(path)
        return
    yield await asyncio.to_thread(_Archive, path)


class _Layout:
    def __init__(self, files: _Files) -> None:
        self._files = files

    async def blob(self, descriptor: Descriptor, most: int) -> bytes:
        return check_blob(descriptor, self._files.read(_blob_path(descriptor), most))

    async def stream(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        async for chunk in _chunks(self._files, _blob_path(descriptor)):
            yield chunk


class _Saved:
    """`places`: diff id -> the layer's name in the archive."""

    def __init__(self, files: _Files, places: Mapping[str, str]) -> None:
        self._files = files
        self._places = places

    async def blob(self, descriptor: Descriptor, most: int) -> bytes:
        return check_blob(descriptor, self._files.read(self._places[descriptor.digest], most))

    async def stream(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        async for chunk in _chunks(self._files, self._places[descriptor.digest]):
            yield chunk


def check_blob(descriptor: Descriptor, data: bytes) -> bytes:
    """The bytes, if they are the blob's; CorruptError otherwise."""
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor.digest:
        raise CorruptError(f"blob {descriptor.digest} has the wrong bytes")
    return data


def _blob_path(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


async def _chunks(files: _Files, name: str) -> AsyncIterator[bytes]:
    with files.open(name) as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
