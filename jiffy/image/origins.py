"""Where images are imported from, as a person names it: docker://python:3.12, oci:FOLDER, docker-archive:FILE ..."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnsupportedError
from jiffy.image.archive import import_archive
from jiffy.image.change import capture_change
from jiffy.image.compression import open_compressed
from jiffy.image.importing import Imported, KnownLayers, Progress, import_image
from jiffy.image.index import Entry, encode_index
from jiffy.image.manifest import Descriptor, Platform
from jiffy.image.oci import OciImage, open_docker_archive, open_layout, open_registry
from jiffy.image.reference import Reference, parse_reference
from jiffy.image.registry import Credentials, Registry
from jiffy.image.remote import can_stay, import_lazily, is_partial
from jiffy.image.seekable import find_seek_indexes
from jiffy.objects.local import LocalObjects

logger = logging.getLogger(__name__)

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
    of layers, an image whose layers can be read in parts stays in its registry. Of an image that is named by its digest,
    only when `trusts_artifacts`: a seek index is not part of what the digest is of."""

    platform: Platform
    credentials: Credentials | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)
    remote: Path | None = None
    trusts_artifacts: bool = False


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
        if access.remote is not None and isinstance(image.blobs, Registry):
            indexes = await _find_seek_indexes(origin, access, image, image.blobs)
            if can_stay(image, indexes):
                try:
                    return await import_lazily(image, image.blobs, access.credentials, objects, access.remote, indexes)
                except (CorruptError, InvalidError) as error:
                    if not indexes:
                        raise
                    logger.warning("a seek index cannot be used: %s", error)
                except UnsupportedError as error:
                    logger.info("%s is imported as a whole: %s", origin.reference, error)
        return await import_image(image, objects, known, progress)


async def _find_seek_indexes(
    origin: Origin, access: Access, image: OciImage, registry: Registry
) -> Mapping[str, Descriptor]:
    """The seek indexes of layers, by the layers' digests; none where they may not be used."""
    is_pinned = origin.reference is not None and bool(origin.reference.digest)
    if is_partial(image) or (is_pinned and not access.trusts_artifacts):
        return {}
    return await find_seek_indexes(registry, image.digest)


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
