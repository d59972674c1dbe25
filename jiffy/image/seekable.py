"""Images made to be read in parts where they are: a seek index for each layer, attached to the image in its registry."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError
from jiffy.image.importing import Progress
from jiffy.image.manifest import Descriptor
from jiffy.image.oci import OciImage
from jiffy.image.referrers import Blob, attach_artifact, find_artifact
from jiffy.image.registry import Registry
from jiffy.image.seek_index import make_seek_index
from jiffy.objects.base import Digest

logger = logging.getLogger(__name__)

ARTIFACT: Final = "application/vnd.jiffy.seek-index.v1"
_BLOB: Final = "application/vnd.jiffy.seek-index.layer.v1+zstd"
_LAYER: Final = "io.jiffy.seek-index.layer"


@dataclass(frozen=True, slots=True)
class Attached:
    """`digest` is the artifact's; sizes are in bytes: of the seek indexes, and of the layers."""

    digest: str
    image: str
    layers: int
    size: int
    layers_size: int


async def find_seek_indexes(registry: Registry, image: str) -> Mapping[str, Descriptor]:
    """The seek indexes that are attached to an image, given its digest: by the digests of layers. None when the registry
    cannot tell."""
    try:
        blobs = await find_artifact(registry, image, ARTIFACT)
    except JiffyError as error:
        logger.info("%s tells no artifacts: %s", registry.reference, error)
        return {}
    return {blob.annotations[_LAYER]: blob for blob in blobs if _LAYER in blob.annotations}


async def attach_seek_indexes(
    registry: Registry, image: OciImage, progress: Progress, first: Sequence[Digest] = ()
) -> Attached:
    """Read all layers of an image once, and attach their seek indexes to it; `first` are objects that a start wants.
    UnsupportedError when a layer cannot be read in parts."""
    progress.total = sum(layer.size for layer in image.layers)
    blobs = []
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        blobs.append(await _make(registry, layer, diff_id, progress, first))
    fetched = await registry.manifest(image.digest)
    subject = Descriptor(fetched.media_type, fetched.digest, len(fetched.data))
    digest = await attach_artifact(registry, subject, ARTIFACT, blobs)
    size = sum(blob.descriptor.size for blob in blobs)
    return Attached(digest, image.digest, len(blobs), size, progress.total)


async def _make(
    registry: Registry, layer: Descriptor, diff_id: str, progress: Progress, first: Sequence[Digest]
) -> Blob:
    """By a temporary file: checkpoints are found by going back a little."""
    before = progress.files

    def count(files: int) -> None:
        progress.files = before + files

    with tempfile.NamedTemporaryFile(prefix="jiffy-seek-") as file:
        async for chunk in registry.stream(layer):
            await asyncio.to_thread(file.write, chunk)
            progress.read += len(chunk)
            progress.tell(progress)
        file.flush()
        index = await asyncio.to_thread(
            make_seek_index, Path(file.name), layer.digest, diff_id, first=first, progress=count
        )
    progress.tell(progress)
    data = await asyncio.to_thread(index.encode)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Blob(Descriptor(_BLOB, digest, len(data), {_LAYER: layer.digest}), data)
