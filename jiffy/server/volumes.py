"""Volumes of the API: trees of files that programs share, written by clients and containers.

Each commit makes a new head of what the last one was, file by file: the last one that wrote a file has it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import InvalidError, NotFoundError
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.base import Digest, check_digest
from jiffy.objects.local import LocalObjects
from jiffy.server.caller import Caller
from jiffy.server.named_objects import NamedObjects, creation_info
from jiffy.server.volume_files import VolumeFiles
from jiffy.server.volume_trees import ROOT, Entries, copy, list_folder, parse_path, put_files, read_entries, remove
from jiffy.store.named_objects import NamedObject
from jiffy.store.stores import Stores
from jiffy.store.volumes import Volume

_ENTRIES_AT_ONCE: Final = 1000
_MOST_LINKS: Final = 40
_TYPES: Final = {
    Kind.FILE: api_pb2.FileEntry.FILE,
    Kind.DIRECTORY: api_pb2.FileEntry.DIRECTORY,
    Kind.SYMLINK: api_pb2.FileEntry.SYMLINK,
    Kind.FIFO: api_pb2.FileEntry.FIFO,
    Kind.SOCKET: api_pb2.FileEntry.SOCKET,
}


class Volumes:
    def __init__(self, stores: Stores, objects: LocalObjects, files: VolumeFiles) -> None:
        self._store = stores.volumes
        self._objects = objects
        self._files = files
        self._named = NamedObjects(stores.named_objects, "volume", "vo")
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # The volumes themselves

    async def volume_get_or_create(
        self, request: api_pb2.VolumeGetOrCreateRequest, caller: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        found, _ = await self._named.get_or_create(request, caller)
        try:
            volume = await self._store.get(found.object_id)
        except NotFoundError:
            empty = await asyncio.to_thread(lambda: self._objects.put(encode_index([ROOT])))
            await self._store.add(found.object_id, request.version or api_pb2.VOLUME_FS_VERSION_V1, empty)
            volume = await self._store.get(found.object_id)
        metadata = _metadata(found, volume)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=found.object_id, version=metadata.version, metadata=metadata)

    async def volume_get_by_id(
        self, request: api_pb2.VolumeGetByIdRequest, caller: Caller
    ) -> api_pb2.VolumeGetByIdResponse:
        found = await self._named.get(request.volume_id)
        metadata = _metadata(found, await self._store.get(found.object_id))
        return api_pb2.VolumeGetByIdResponse(volume_id=found.object_id, metadata=metadata)

    async def volume_list(self, request: api_pb2.VolumeListRequest, caller: Caller) -> api_pb2.VolumeListResponse:
        items = [
            api_pb2.VolumeListItem(
                label=each.name,
                volume_id=each.object_id,
                created_at=each.created_at,
                metadata=_metadata(each, await self._store.get(each.object_id)),
            )
            for each in await self._named.list(request)
        ]
        return api_pb2.VolumeListResponse(items=items, environment_name=request.environment_name)

    async def volume_delete(self, request: api_pb2.VolumeDeleteRequest, caller: Caller) -> Empty:
        await self._named.delete(request.volume_id)
        return Empty()

    async def volume_rename(self, request: api_pb2.VolumeRenameRequest, caller: Caller) -> Empty:
        await self._named.rename(request.volume_id, request.name)
        return Empty()

    async def volume_heartbeat(self, request: api_pb2.VolumeHeartbeatRequest, caller: Caller) -> Empty:
        await self._named.beat(request.volume_id)
        return Empty()

    # Their files

    async def volume_put_files(self, request: api_pb2.VolumePutFilesRequest, caller: Caller) -> Empty:
        """Files whose contents were uploaded as those of mounts are."""
        files = await asyncio.to_thread(lambda: [self._uploaded(file) for file in request.files])
        only_new = request.disallow_overwrite_existing_files
        await self.change(request.volume_id, lambda entries: put_files(entries, files, only_new=only_new))
        return Empty()

    async def volume_put_files2(
        self, request: api_pb2.VolumePutFiles2Request, caller: Caller
    ) -> api_pb2.VolumePutFiles2Response:
        """Files by their blocks. While some are missing, nothing but where to send them follows."""
        await self._store.get(request.volume_id)
        wanted = {block.contents_sha256.hex() for file in request.files for block in file.blocks}
        missing = await asyncio.to_thread(self._files.missing, [check_digest(digest) for digest in wanted])
        if missing:
            return api_pb2.VolumePutFiles2Response(
                missing_blocks=[
                    api_pb2.VolumePutFiles2Response.MissingBlock(
                        file_index=number, block_index=place, put_url=self._files.put_address(caller, digest)
                    )
                    for number, file in enumerate(request.files)
                    for place, block in enumerate(file.blocks)
                    if (digest := block.contents_sha256.hex()) in missing
                ]
            )
        files = await asyncio.to_thread(lambda: [self._joined(file) for file in request.files])
        only_new = request.disallow_overwrite_existing_files
        await self.change(request.volume_id, lambda entries: put_files(entries, files, only_new=only_new))
        return api_pb2.VolumePutFiles2Response()

    async def volume_list_files(
        self, request: api_pb2.VolumeListFilesRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFilesResponse]:
        for page in await self._pages(request):
            yield api_pb2.VolumeListFilesResponse(entries=page)

    async def volume_list_files2(
        self, request: api_pb2.VolumeListFiles2Request, caller: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        for page in await self._pages(request):
            yield api_pb2.VolumeListFiles2Response(entries=page)

    async def volume_get_file2(
        self, request: api_pb2.VolumeGetFile2Request, caller: Caller
    ) -> api_pb2.VolumeGetFile2Response:
        index = await self.head(request.volume_id)
        entry = _resolve(index, parse_path(request.path))
        start = min(request.start, entry.size)
        length = min(request.len or entry.size, entry.size - start)
        return api_pb2.VolumeGetFile2Response(
            get_urls=self._files.get_addresses(caller, entry.digest, start, length),
            size=entry.size,
            start=start,
            len=length,
        )

    async def volume_remove_file(self, request: api_pb2.VolumeRemoveFileRequest, caller: Caller) -> Empty:
        return await self._remove(request)

    async def volume_remove_file2(self, request: api_pb2.VolumeRemoveFile2Request, caller: Caller) -> Empty:
        return await self._remove(request)

    async def volume_copy_files(self, request: api_pb2.VolumeCopyFilesRequest, caller: Caller) -> Empty:
        return await self._copy(request)

    async def volume_copy_files2(self, request: api_pb2.VolumeCopyFiles2Request, caller: Caller) -> Empty:
        return await self._copy(request)

    # For the rest of the server

    async def head(self, volume_id: str) -> Index:
        digest = (await self._store.get(volume_id)).head
        return await asyncio.to_thread(Index.from_file, self._objects.path(digest))

    async def change(self, volume_id: str, change: Callable[[Entries], None]) -> Digest:
        """Commit what becomes of a volume's tree; gives the new head. Nothing is committed when `change` raises."""
        async with self._locks[volume_id]:
            while True:
                before = (await self._store.get(volume_id)).head
                after = await asyncio.to_thread(self._changed, before, change)
                if after == before or await self._store.commit(volume_id, before, after):
                    return after

    def _changed(self, head: Digest, change: Callable[[Entries], None]) -> Digest:
        entries = read_entries(Index.from_file(self._objects.path(head)))
        change(entries)
        return self._objects.put(encode_index(entries.values()))

    async def _remove(self, request: Any) -> Empty:
        path = parse_path(request.path)
        await self.change(request.volume_id, lambda entries: remove(entries, path, recursive=request.recursive))
        return Empty()

    async def _copy(self, request: Any) -> Empty:
        sources, target = [parse_path(path) for path in request.src_paths], parse_path(request.dst_path)
        await self.change(
            request.volume_id, lambda entries: copy(entries, sources, target, recursive=request.recursive)
        )
        return Empty()

    async def _pages(self, request: Any) -> list[list[api_pb2.FileEntry]]:
        index = await self.head(request.volume_id)
        path = parse_path(request.path)

        def read() -> list[list[api_pb2.FileEntry]]:
            found = [_describe(entry) for entry in list_folder(index, path, recursive=request.recursive)]
            found = found[: request.max_entries or len(found)]
            return list(_slices(found, _ENTRIES_AT_ONCE))

        return await asyncio.to_thread(read)

    def _uploaded(self, file: api_pb2.MountFile) -> Entry:
        digest = check_digest(file.sha256_hex)
        size = self._objects.size(digest)
        if size is None:
            raise NotFoundError(f"the content of {file.filename} was not uploaded")
        mode = (file.mode & 0o7777) or 0o644
        return Entry(parse_path(file.filename), Kind.FILE, mode, size=size, digest=digest if size else "")

    def _joined(self, file: api_pb2.VolumePutFiles2Request.File) -> Entry:
        digest = self._files.join([block.contents_sha256.hex() for block in file.blocks], file.size)
        mode = (file.mode & 0o7777) or 0o644
        return Entry(parse_path(file.path), Kind.FILE, mode, size=file.size, digest=digest)


def _resolve(index: Index, path: bytes) -> Entry:
    """A file at a path, a link at its end followed."""
    for _ in range(_MOST_LINKS):
        entry = index.lookup(path)
        if entry is None:
            raise NotFoundError(f"no file {path.decode(errors='replace')} is in the volume")
        if entry.kind is Kind.FILE:
            return entry
        if entry.kind is not Kind.SYMLINK:
            break
        folder = b"" if entry.target.startswith(b"/") else path.rpartition(b"/")[0]
        path = parse_path((folder + b"/" + entry.target).decode(errors="replace"))
    raise InvalidError(f"{path.decode(errors='replace')} is no file")


def _describe(entry: Entry) -> api_pb2.FileEntry:
    return api_pb2.FileEntry(
        path=entry.path.decode(errors="replace").lstrip("/"),
        type=_TYPES.get(entry.kind, api_pb2.FileEntry.UNSPECIFIED),
        mtime=max(0, entry.mtime_ns // 10**9),
        size=entry.size,
    )


def _slices(found: list[api_pb2.FileEntry], size: int) -> Iterator[list[api_pb2.FileEntry]]:
    return (found[start : start + size] for start in range(0, len(found), size))


def _metadata(found: NamedObject, volume: Volume) -> api_pb2.VolumeMetadata:
    return api_pb2.VolumeMetadata(
        version=volume.fs_version,  # type: ignore[arg-type]
        name=found.name,
        creation_info=creation_info(found),
    )
