"""Where images are imported from, as a person names it: docker://python:3.12, oci:FOLDER, docker-archive:FILE ..."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.image.archive import import_archive
from jiffy.image.change import capture_change
from jiffy.image.compression import open_compressed
from jiffy.image.importing import Imported, KnownLayers, Progress, import_image
from jiffy.image.index import Entry, encode_index
from jiffy.image.manifest import Platform
from jiffy.image.oci import OciImage, open_docker_archive, open_layout, open_registry
from jiffy.image.reference import Reference, parse_reference
from jiffy.image.registry import Credentials, Registry
from jiffy.image.remote import can_stay, import_lazily
from jiffy.objects.local import LocalObjects

KINDS: Final = ("docker", "oci", "oci-archive", "docker-archive", "dir", "tar")


@dataclass(frozen=True, slots=True)
class Origin:
    """`kind` is one of KINDS; `reference` is a registry's, `path` a file or folder in which `name` chooses an image."""

    kind: str
    reference: Reference | None = None
    path: Path = Path()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """How registries are asked: `mirrors` are addresses in place of a host's. With `remote`, a folder for the descriptions
    of layers, an image whose layers can be read in parts stays in its registry."""

    platform: Platform
    credentials: Credentials | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)
    remote: Path | None = None


def parse_origin(text: str) -> Origin:
    """InvalidError when nothing is named; a path alone is known by what is there."""
    kind, separator, rest = text.partition(":")
    if not separator or kind not in KINDS:
        return _guess(text)
    if kind == "docker":
        return Origin(kind, parse_reference(rest.removeprefix("//")))
    path, _, name = rest.partition(":")
    return _at(kind, Path(path), name)


def _guess(text: str) -> Origin:
    path = Path(text)
    if path.is_dir():
        return _at("oci" if (path / "oci-layout").exists() else "dir", path, "")
    if not path.exists():
        raise NotFoundError(
            f"there is no {text}", hint="an image of a registry is named docker://NAME; a file or folder by its path"
        )
    raise InvalidError(f"{text} could be several things", hint=f"write docker-archive:{text}, oci-archive: or tar:")


def _at(kind: str, path: Path, name: str) -> Origin:
    if not path.exists():
        raise NotFoundError(f"there is no {path}")
    if path.is_dir() != (kind in ("oci", "dir")):
        raise InvalidError(f"{path} is {'a folder' if path.is_dir() else 'a file'}", hint=f"{kind}: takes the other")
    return Origin(kind, None, path, name)


async def import_origin(
    origin: Origin, access: Access, objects: LocalObjects, known: KnownLayers, progress: Progress
) -> Imported:
    """Import what an origin names."""
    if origin.kind in ("dir", "tar"):
        return await asyncio.to_thread(_import_tree, origin, objects, progress)
    async with _open(origin, access) as image:
        if access.remote is not None and isinstance(image.blobs, Registry) and can_stay(image):
            with contextlib.suppress(UnsupportedError):
                return await import_lazily(image, image.blobs, access.credentials, objects, access.remote)
        return await import_image(image, objects, known, progress)


@asynccontextmanager
async def _open(origin: Origin, access: Access) -> AsyncIterator[OciImage]:
    if origin.reference is not None:
        async with open_registry(origin.reference, access.platform, access.credentials, access.mirrors) as image:
            yield image
    elif origin.kind == "docker-archive":
        async with open_docker_archive(origin.path, origin.name) as image:
            yield image
    else:
        async with open_layout(origin.path, origin.name, access.platform) as image:
            yield image


def _import_tree(origin: Origin, objects: LocalObjects, progress: Progress) -> Imported:
    """A root as a folder or an archive, without a configuration."""
    with objects.batch() as batch:
        if origin.kind == "dir":
            change = capture_change(origin.path, batch.copy)
            entries = change.entries
        else:
            with open_compressed(origin.path) as stream:
                entries = import_archive(stream, batch)
    progress.files = len(entries)
    progress.tell(progress)
    return _imported(entries, objects)


def _imported(entries: list[Entry], objects: LocalObjects) -> Imported:
    index = objects.put(encode_index(entries))
    return Imported(index, {}, "", (), len(entries), sum(entry.size for entry in entries))
