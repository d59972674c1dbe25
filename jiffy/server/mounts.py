"""Mounts: the files of a program, uploaded by content and listed by path."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from modal_proto import api_pb2

from jiffy.errors import CorruptError, InvalidError, NotFoundError
from jiffy.identifiers import derived_id
from jiffy.image.index import Entry, Kind, encode_index
from jiffy.objects.base import check_digest
from jiffy.objects.local import LocalObjects
from jiffy.server.blobs import Blobs
from jiffy.server.caller import Caller
from jiffy.server.derivations import Derivations
from jiffy.server.pythons import Pythons
from jiffy.store.mounts import Mount
from jiffy.store.stores import Stores

_CLIENT_MOUNT: Final = "modal-client-mount-"
_MOST_FILES: Final = 200_000


class Mounts:
    def __init__(
        self, stores: Stores, objects: LocalObjects, blobs: Blobs, derivations: Derivations, pythons: Pythons
    ) -> None:
        self._stores = stores
        self._objects = objects
        self._blobs = blobs
        self._derivations = derivations
        self._pythons = pythons

    async def mount_batched_check_existence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, caller: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        digests = [check_digest(digest) for digest in request.sha256_hex_hashes]
        missing = await asyncio.to_thread(self._objects.missing, digests)
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def mount_put_file(
        self, request: api_pb2.MountPutFileRequest, caller: Caller
    ) -> api_pb2.MountPutFileResponse:
        """Store a file's content, sent along or uploaded as a blob; without either, tell whether it is there."""
        digest = check_digest(request.sha256_hex)
        kind = request.WhichOneof("data_oneof")
        if kind == "data":
            await asyncio.to_thread(self._objects.put, request.data, digest)
        elif kind == "data_blob_id" and await self._blobs.digest(request.data_blob_id) != digest:
            raise CorruptError(f"the uploaded file is not {digest}", hint="it may have changed while it was read")
        return api_pb2.MountPutFileResponse(exists=await asyncio.to_thread(self._objects.has, digest))

    async def mount_get_or_create(
        self, request: api_pb2.MountGetOrCreateRequest, caller: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        if request.deployment_name and not request.files:
            mount = await self._find(request.namespace, request.deployment_name)
        else:
            mount = await self._create(request, caller)
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount.mount_id,
            handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount.checksum),
        )

    async def _find(self, namespace: int, name: str) -> Mount:
        if (mount := await self._stores.mounts.find(namespace, name)) is not None:
            return mount
        if namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL and name.startswith(_CLIENT_MOUNT):
            return await self._derivations.client_mount(name, name.removeprefix(_CLIENT_MOUNT))
        if namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL and self._pythons.knows(name):
            return await self._add_python(name)
        raise NotFoundError(f"no mount is named {name}")

    async def _add_python(self, name: str) -> Mount:
        index = await self._pythons.index(name)
        mount = Mount(derived_id("mo", name), index, derived_id("ck", index))
        await self._stores.mounts.add(mount, namespace=api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL, name=name)
        return mount

    async def _create(self, request: api_pb2.MountGetOrCreateRequest, caller: Caller) -> Mount:
        if len(request.files) > _MOST_FILES:
            raise InvalidError(f"a mount of {len(request.files)} files", why=f"the most is {_MOST_FILES}")
        entries = await asyncio.to_thread(self._entries, request)
        index = await asyncio.to_thread(lambda: self._objects.put(encode_index(entries)))
        mount = Mount(caller.new_id("mo"), index, _checksum(request))
        await self._stores.mounts.add(mount, namespace=request.namespace, name=request.deployment_name)
        return mount

    def _entries(self, request: api_pb2.MountGetOrCreateRequest) -> list[Entry]:
        files = [self._entry(file) for file in request.files]
        return with_parents(files)

    def _entry(self, file: api_pb2.MountFile) -> Entry:
        digest = check_digest(file.sha256_hex)
        size = self._objects.size(digest)
        if size is None:
            raise NotFoundError(f"the content of {file.filename} was not uploaded")
        return Entry(
            path=_normal_path(file.filename),
            kind=Kind.FILE,
            mode=(file.mode & 0o7777) or 0o644,
            size=size,
            digest=digest if size else "",
        )


def with_parents(entries: list[Entry]) -> list[Entry]:
    """The entries with the directories that lead to them."""
    paths = {entry.path for entry in entries}
    parents = {b"/"}
    for path in paths:
        while (path := path.rpartition(b"/")[0]) not in (b"", *parents):
            parents.add(path)
    return entries + [Entry(path=path, kind=Kind.DIRECTORY, mode=0o755) for path in parents - paths]


def _normal_path(name: str) -> bytes:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name or not parts:
        raise InvalidError(f"a file of a mount cannot be at {name!r}")
    return b"/" + "/".join(parts).encode()


def _checksum(request: api_pb2.MountGetOrCreateRequest) -> str:
    lines = sorted(f"{file.filename}\0{file.sha256_hex}\0{file.mode}" for file in request.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
