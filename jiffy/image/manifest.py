"""Manifests and configurations of OCI and Docker images: what they list, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError

LARGEST_MANIFEST: Final = 4 * 2**20
LARGEST_CONFIG: Final = 8 * 2**20
MOST_LAYERS: Final = 512

INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
OCI_MANIFEST, OCI_CONFIG, OCI_LAYER = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
_LAYER: Final = re.compile(
    r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar|docker\.image\.rootfs(\.foreign)?\.diff\.tar)"
    r"(?P<dots>[.+](gzip|zstd))?"
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob that a manifest lists: `digest` is sha256:..., `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Platform:
    """Such as linux/amd64, or linux/arm/v7."""

    architecture: str
    variant: str = ""
    system: str = "linux"

    def __str__(self) -> str:
        return "/".join(filter(None, (self.system, self.architecture, self.variant)))


def parse_platform(text: str) -> Platform:
    system, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    if not system or not architecture:
        raise InvalidError(f"{text!r} is no platform", hint="such as linux/amd64")
    return Platform(_ARCHITECTURES.get(architecture, architecture), variant, system)


def read_json(data: bytes, what: str, most: int = LARGEST_MANIFEST) -> dict[str, Any]:
    """A JSON object; InvalidError when it is none, or too large."""
    if len(data) > most:
        raise InvalidError(f"{what} of {len(data)} bytes", why=f"the most is {most}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{what} is not JSON", why=str(error)[:100]) from error
    if not isinstance(value, dict):
        raise InvalidError(f"{what} is not a JSON object")
    return value


def is_list(value: Mapping[str, Any]) -> bool:
    """Whether a manifest lists others, for several platforms."""
    kind = value.get("mediaType")
    return kind in INDEX_TYPES or (kind is None and "manifests" in value)


def choose_manifest(value: Mapping[str, Any], wanted: Platform) -> Descriptor:
    """The entry of a list for a platform. NotFoundError names what there is."""
    found: list[tuple[str, Descriptor]] = []
    for each in _list(value, "manifests"):
        platform = each.get("platform") if isinstance(each, dict) else None
        platform = platform if isinstance(platform, dict) else {}
        parts = [str(platform.get(name, "")) for name in ("os", "architecture", "variant")]
        descriptor = read_descriptor(each)
        if descriptor.media_type in INDEX_TYPES:
            continue
        if not any(parts) or (parts[:2] == [wanted.system, wanted.architecture] and wanted.variant in ("", parts[2])):
            return descriptor
        if parts[0] != "unknown":
            found.append(("/".join(filter(None, parts)), descriptor))
    names = ", ".join(name for name, _ in found) or "nothing"
    raise NotFoundError(f"the image is not made for {wanted}", why=f"there is {names}")


def read_manifest(value: Mapping[str, Any]) -> Manifest:
    """The config and layers of one image. InvalidError or UnsupportedError for what cannot be read."""
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        raise UnsupportedError(
            "a manifest of schema 1", why="registries gave it up long ago", hint="push the image anew"
        )
    layers = tuple([read_descriptor(each) for each in _list(value, "layers")])
    if len(layers) > MOST_LAYERS:
        raise InvalidError(f"an image of {len(layers)} layers", why=f"the most is {MOST_LAYERS}")
    for layer in layers:
        _check_layer(layer)
    return Manifest(read_descriptor(value.get("config")), layers)


def read_descriptor(value: Any) -> Descriptor:
    """InvalidError when it is none."""
    if not isinstance(value, dict):
        raise InvalidError("a descriptor is not an object")
    media_type, digest, size = value.get("mediaType", ""), value.get("digest"), value.get("size", 0)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidError(f"{str(digest)[:80]!r} is not a digest", hint="sha256: and 64 hex digits")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(media_type, str):
        raise InvalidError("a descriptor with a size or type that cannot be")
    notes = value.get("annotations") or {}
    if not isinstance(notes, dict):
        raise InvalidError("a descriptor with annotations that are none")
    urls = value.get("urls")
    if urls:
        raise UnsupportedError("a foreign layer", why="its contents are not in the registry, but at other addresses")
    return Descriptor(media_type, digest, size, {str(name): str(text) for name, text in notes.items()})


def read_diff_ids(config: Mapping[str, Any], layers: int) -> list[str]:
    """The digests of the uncompressed layers, one for each. InvalidError when they do not fit the manifest."""
    root = config.get("rootfs")
    found = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(found, list) or len(found) != layers:
        raise InvalidError("the image's configuration does not tell the digests of its layers")
    for each in found:
        if not isinstance(each, str) or not _DIGEST.fullmatch(each):
            raise InvalidError(f"{str(each)[:80]!r} is not a digest")
    return found


def _check_layer(layer: Descriptor) -> None:
    match = _LAYER.fullmatch(layer.media_type)
    if match is None:
        raise UnsupportedError(f"a layer of type {layer.media_type[:80]!r}", why="it is no tar of files")
    if match[2] or match[3]:
        raise UnsupportedError("a foreign layer", why="its contents may not be distributed by a registry")


def _list(value: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise InvalidError(f"a manifest without {name}")
    return found
