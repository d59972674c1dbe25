"""What belongs to an image in its registry without being part of it: artifacts, which name it as their subject.

A registry that knows of subjects lists them; for one that does not, there is a list by the tag that the OCI's
specification sets for it: the image's digest, with a dash in place of the colon.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jiffy.errors import InvalidError, JiffyError, NotFoundError
from jiffy.image.manifest import INDEX_TYPES, OCI_MANIFEST, Descriptor, read_descriptor, read_json
from jiffy.image.registry import Registry

_CREATED: Final = "org.opencontainers.image.created"
_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY_DIGEST: Final = f"sha256:{hashlib.sha256(_EMPTY).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Blob:
    descriptor: Descriptor
    data: bytes


async def find_artifact(registry: Registry, subject: str, kind: str) -> tuple[Descriptor, ...]:
    """The blobs of the newest artifact of a kind that belongs to a manifest; none when there is no such artifact."""
    listed = [each for each in await _listed(registry, subject) if each.get("artifactType") == kind]
    if not listed:
        return ()
    newest = max(listed, key=lambda each: str((each.get("annotations") or {}).get(_CREATED, "")))
    fetched = await registry.manifest(read_descriptor(newest).digest)
    value = read_json(fetched.data, "the artifact")
    layers = value.get("layers")
    if value.get("artifactType") != kind or not isinstance(layers, list):
        raise InvalidError("an artifact that is not what its list says")
    return tuple([read_descriptor(layer) for layer in layers])


async def attach_artifact(registry: Registry, subject: Descriptor, kind: str, blobs: Sequence[Blob]) -> str:
    """Push blobs as an artifact that belongs to a manifest, in place of an earlier one; gives the artifact's digest."""
    empty = Blob(Descriptor(_EMPTY_TYPE, _EMPTY_DIGEST, len(_EMPTY)), _EMPTY)
    for blob in (empty, *blobs):
        await registry.put(blob.descriptor, blob.data)
    created = {_CREATED: datetime.now(UTC).isoformat(timespec="milliseconds")}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": _described(empty.descriptor),
        "layers": [_described(blob.descriptor) for blob in blobs],
        "subject": _described(subject),
        "annotations": created,
    }
    data = json.dumps(manifest).encode()
    artifact = Descriptor(OCI_MANIFEST, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), created)
    if not await registry.publish(artifact.digest, OCI_MANIFEST, data):
        await _list_by_tag(registry, subject.digest, {**_described(artifact), "artifactType": kind})
    return artifact.digest


async def _list_by_tag(registry: Registry, subject: str, artifact: dict[str, Any]) -> None:
    others = [each for each in await _tagged(registry, subject) if each.get("artifactType") != artifact["artifactType"]]
    value = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [*others, artifact]}
    await registry.publish(_tag(subject), INDEX_TYPES[0], json.dumps(value).encode())


async def _listed(registry: Registry, subject: str) -> list[dict[str, Any]]:
    try:
        return _manifests(await registry.referrers(subject))
    except NotFoundError:
        return await _tagged(registry, subject)


async def _tagged(registry: Registry, subject: str) -> list[dict[str, Any]]:
    try:
        fetched = await registry.manifest(_tag(subject))
    except NotFoundError:
        return []
    return _manifests(fetched.data)


def _manifests(data: bytes) -> list[dict[str, Any]]:
    try:
        found = read_json(data, "the list of artifacts").get("manifests")
    except JiffyError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _tag(subject: str) -> str:
    return subject.replace(":", "-")


def _described(descriptor: Descriptor) -> dict[str, Any]:
    told = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
    return {**told, "annotations": dict(descriptor.annotations)} if descriptor.annotations else told
