"""Blobs: large arguments and results, announced by RPC, moved by HTTP. A blob's id is its key: it cannot be guessed."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from aiohttp import web
from modal_proto import api_pb2

from jiffy import failpoints
from jiffy.errors import InvalidError, NotFoundError
from jiffy.objects.local import LocalObjects
from jiffy.server.bodies import receive_body
from jiffy.server.caller import Caller
from jiffy.store.stores import Stores

LARGEST_BLOB: Final = 8 * 2**30


class Blobs:
    def __init__(self, stores: Stores, objects: LocalObjects) -> None:
        self._stores = stores
        self._objects = objects

    async def blob_create(self, request: api_pb2.BlobCreateRequest, caller: Caller) -> api_pb2.BlobCreateResponse:
        """One upload in one part; both the fields of newer and of older clients are set."""
        if not 0 <= request.content_length <= LARGEST_BLOB:
            raise InvalidError(
                f"a blob of {request.content_length} bytes", why=f"the largest is {LARGEST_BLOB // 2**30} GiB"
            )
        blob_id = caller.new_id("bl")
        await self._stores.blobs.add(blob_id, request.content_length)
        url = caller.url(f"/blobs/{blob_id}")
        return api_pb2.BlobCreateResponse(
            blob_ids=[blob_id], upload_urls=api_pb2.UploadUrlList(items=[url]), blob_id=blob_id
        )

    async def blob_get(self, request: api_pb2.BlobGetRequest, caller: Caller) -> api_pb2.BlobGetResponse:
        await self._stores.blobs.digest(request.blob_id)
        return api_pb2.BlobGetResponse(download_url=caller.url(f"/blobs/{request.blob_id}"))

    async def read(self, blob_id: str) -> bytes:
        """A whole blob, for those that came as a large file of a mount."""
        digest = await self._stores.blobs.digest(blob_id)
        return await asyncio.to_thread(self._objects.read, digest)

    async def digest(self, blob_id: str) -> str:
        return await self._stores.blobs.digest(blob_id)

    async def upload(self, request: web.Request) -> web.Response:
        """PUT: the body becomes an object. The answer's ETag is its md5, as the client expects of an object store. Each body
        has a connection of its own: none is repeated because one that was used before turns out to be gone."""
        blob_id = request.match_info["blob_id"]
        announced = await self._stores.blobs.announced(blob_id)
        checksum = hashlib.md5(usedforsecurity=False)
        with self._objects.writer() as writer:
            received = 0
            async for chunk in receive_body(request, f"blob {blob_id}"):
                received += len(chunk)
                if received > announced:
                    raise InvalidError(f"blob {blob_id} is longer than the {announced} bytes that were announced")
                checksum.update(chunk)
                await asyncio.to_thread(writer.write, chunk)
            if received != announced:
                raise InvalidError(f"blob {blob_id} ended after {received} of {announced} bytes")
            digest, size = await asyncio.to_thread(writer.publish)
        failpoints.reach("blob-stored")
        await self._stores.blobs.complete(blob_id, digest, size)
        failpoints.reach("blob-recorded")
        response = web.Response(headers={"ETag": f'"{checksum.hexdigest()}"'})
        response.force_close()
        return response

    async def download(self, request: web.Request) -> web.StreamResponse:
        digest = await self._stores.blobs.digest(request.match_info["blob_id"])
        path = self._objects.path(digest)
        if not path.exists():
            raise NotFoundError(f"the object of blob {request.match_info['blob_id']} is missing")
        response = web.FileResponse(path)
        response.force_close()
        return response
