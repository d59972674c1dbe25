"""Images of the API: found or made, with the progress of the making streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import NotFoundError
from jiffy.identifiers import derived_id
from jiffy.server.bells import Bells
from jiffy.server.builds import Build, Builds
from jiffy.server.caller import Caller
from jiffy.server.definitions import Definitions
from jiffy.server.entries import entry_id, read_entry_id
from jiffy.server.log_queries import log_batch
from jiffy.store.images import StoredImage
from jiffy.store.logs import LogLine
from jiffy.store.stores import Stores

LONGEST_POLL: Final = 55.0


class Images:
    def __init__(self, stores: Stores, definitions: Definitions, builds: Builds, bells: Bells) -> None:
        self._stores = stores
        self._definitions = definitions
        self._builds = builds
        self._bells = bells

    async def image_get_or_create(
        self, request: api_pb2.ImageGetOrCreateRequest, caller: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        """An image is known by what its definition means. Without a result in the answer, the client joins the build."""
        identity = await self._definitions.identify(request.image, request.builder_version)
        image = await self._find(identity, request, caller)
        if image.content is None:
            self._builds.build(image, caller.client_version, request.app_id)
            return api_pb2.ImageGetOrCreateResponse(image_id=image.image_id)
        return api_pb2.ImageGetOrCreateResponse(image_id=image.image_id, result=_success(), metadata=_metadata(image))

    async def _find(self, identity: str, request: api_pb2.ImageGetOrCreateRequest, caller: Caller) -> StoredImage:
        """The latest image of a definition, unless it is to be built anew."""
        anew = request.force_build or request.ignore_cache
        if not anew and (found := await self._stores.images.find(identity)) is not None and found.content is not None:
            return found
        salt = caller.new_id("im") if anew else ""
        image = StoredImage(
            image_id=derived_id("im", identity, salt),
            builder_version=request.builder_version,
            definition=request.image.SerializeToString(deterministic=True),
            identity=identity,
            salt=salt,
            build_function_id=request.build_function_id,
        )
        await self._stores.images.add(image)
        return await self._stores.images.get(image.image_id)

    async def image_from_id(self, request: api_pb2.ImageFromIdRequest, caller: Caller) -> api_pb2.ImageFromIdResponse:
        image = await self._stores.images.get(request.image_id)
        if image.content is None:
            raise NotFoundError(f"image {image.image_id} was never finished")
        return api_pb2.ImageFromIdResponse(image_id=image.image_id, metadata=_metadata(image))

    async def image_delete(self, request: api_pb2.ImageDeleteRequest, caller: Caller) -> Empty:
        """Containers that run keep what they have; its objects go with a collection."""
        await self._stores.images.get(request.image_id)
        await self._stores.image_names.forget_image(request.image_id)
        await self._stores.images.delete(request.image_id)
        await self._stores.logs.forget(request.image_id)
        return Empty()

    async def image_join_streaming(
        self, request: api_pb2.ImageJoinStreamingRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        """Lines after the last that the client saw, then the result: whoever asks has not been told it yet. A build
        broken off by a restart begins anew."""
        position = read_entry_id(request.last_entry_id)
        deadline = time.monotonic() + min(request.timeout or LONGEST_POLL, LONGEST_POLL)
        image = await self._stores.images.get(request.image_id)
        build = Build() if image.content is not None else self._builds.build(image, caller.client_version)
        if image.content is None:
            await build.began.wait()
        with self._bells.listen(request.image_id) as bell:
            while True:
                image = await self._stores.images.get(request.image_id)
                is_over = image.content is not None or bool(build.failure)
                while lines := await self._stores.logs.after(request.image_id, position):
                    yield _lines(lines)
                    position = lines[-1].position
                if is_over:
                    yield _finished(image, build)
                    return
                if not await bell.wait(deadline - time.monotonic()):
                    return


def _success() -> api_pb2.GenericResult:
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def _lines(lines: list[LogLine]) -> api_pb2.ImageJoinStreamingResponse:
    logs = [item for line in lines for item in log_batch(line).items]
    return api_pb2.ImageJoinStreamingResponse(task_logs=logs, entry_id=entry_id(lines[-1].position))


def _finished(image: StoredImage, build: Build) -> api_pb2.ImageJoinStreamingResponse:
    if image.content is not None:
        return api_pb2.ImageJoinStreamingResponse(result=_success(), eof=True, metadata=_metadata(image))
    failure = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=build.failure)
    return api_pb2.ImageJoinStreamingResponse(result=failure, eof=True)


def _metadata(image: StoredImage) -> api_pb2.ImageMetadata:
    assert image.content is not None
    return api_pb2.ImageMetadata(
        image_builder_version=image.builder_version,
        python_version_info=image.content.python_version_info,
        workdir=image.content.working_directory,
        libc_version_info=image.content.libc,
        python_packages=image.content.python_packages,
    )
