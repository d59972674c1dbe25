"""Small OCI images for tests, made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

OCI = "application/vnd.oci.image"


@dataclass
class Member:
    """One member of a layer: a file with content unless another type is given."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    linkname: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    headers: dict[str, str] = field(default_factory=dict)


def folder(name: str, mode: int = 0o755) -> Member:
    return Member(name, type=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Member:
    return Member(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str) -> Member:
    return Member(name, type=tarfile.LNKTYPE, linkname=target)


def make_layer(*members: Member) -> bytes:
    """An uncompressed layer."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.mode = member.type, member.linkname, member.mode
            info.uid, info.gid, info.mtime = member.uid, member.gid, member.mtime
            info.size = len(member.data)
            info.pax_headers = member.headers
            archive.addfile(info, io.BytesIO(member.data))
    return stream.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class LayoutWriter:
    """An OCI layout in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._manifests: list[dict[str, Any]] = []
        self.layers: list[Path] = []
        """The files of all layers, in the order of their writing."""

    def blob(self, data: bytes) -> str:
        digest = digest_of(data)
        (self.root / "blobs" / digest.replace(":", "/")).write_bytes(data)
        return digest

    def image(
        self,
        layers: Sequence[bytes],
        config: dict[str, Any] | None = None,
        *,
        name: str = "",
        compression: str = "gzip",
        architecture: str = "amd64",
        media_type: str = "",
    ) -> str:
        """Add an image of uncompressed layers; gives its manifest's digest."""
        described = []
        for layer in layers:
            data = _COMPRESS[compression](layer)
            kind = f"{OCI}.layer.v1.tar" + ("" if compression == "none" else f"+{compression}")
            digest = self.blob(data)
            self.layers.append(self.root / "blobs" / digest.replace(":", "/"))
            described.append({"mediaType": media_type or kind, "digest": digest, "size": len(data)})
        settings = {
            "architecture": architecture,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
        encoded = json.dumps(settings).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json", "digest": self.blob(encoded), "size": len(encoded)},
            "layers": described,
        }
        return self.manifest(json.dumps(manifest).encode(), name, architecture)

    def manifest(self, data: bytes, name: str = "", architecture: str = "amd64") -> str:
        digest = self.blob(data)
        entry: dict[str, Any] = {"mediaType": f"{OCI}.manifest.v1+json", "digest": digest, "size": len(data)}
        entry["platform"] = {"architecture": architecture, "os": "linux"}
        if name:
            entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        self._manifests.append(entry)
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": self._manifests}
        (self.root / "index.json").write_text(json.dumps(index))
        return digest


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "zstd": _zstd, "none": bytes}
