"""Names of images in the API: published, found, listed with their history, taken away."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import NotFoundError
from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT, require_environment
from jiffy.store.image_names import Revision
from jiffy.store.stores import Stores

_MOST_LISTED = 1000


class ImageNames:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def image_publish(self, request: api_pb2.ImagePublishRequest, caller: Caller) -> api_pb2.ImagePublishResponse:
        image = await self._stores.images.get(request.image_id)
        if image.content is None:
            raise NotFoundError(f"image {image.image_id} was never finished", hint="build it first")
        environment, name = _split(request.tag, request.environment_name)
        await require_environment(self._stores.environments, environment)
        revision = await self._stores.image_names.publish(environment, name, image.image_id)
        return api_pb2.ImagePublishResponse(image_id=image.image_id, revision_id=_revision_id(revision))

    async def image_get_by_tag(
        self, request: api_pb2.ImageGetByTagRequest, caller: Caller
    ) -> api_pb2.ImageGetByTagResponse:
        environment, name = _split(request.tag, request.environment_name)
        found = await self._stores.image_names.find(environment, name)
        if found is None:
            raise NotFoundError(f"no image is named {name}", hint="image.publish() and jiffy image import name images")
        return api_pb2.ImageGetByTagResponse(image_id=found.image_id)

    async def image_list_tags(
        self, request: api_pb2.ImageListTagsRequest, caller: Caller
    ) -> api_pb2.ImageListTagsResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        found = [
            revision
            for revision in await self._stores.image_names.all(environment)
            if revision.name.startswith(request.tag_prefix) and request.image_id in ("", revision.image_id)
        ]
        start = int(request.page_token or 0)
        page = found[start : start + (request.max_objects or _MOST_LISTED)]
        following = start + len(page)
        return api_pb2.ImageListTagsResponse(
            items=[
                api_pb2.ImageListTagsItem(
                    tag=revision.name,
                    image_id=revision.image_id,
                    revision_id=_revision_id(revision),
                    created_at=revision.created_at,
                    updated_at=revision.created_at,
                )
                for revision in page
            ],
            next_page_token=str(following) if following < len(found) else "",
            environment_name=environment,
        )

    async def image_tag_revisions(
        self, request: api_pb2.ImageTagRevisionsRequest, caller: Caller
    ) -> api_pb2.ImageTagRevisionsResponse:
        environment, name = _split(request.tag, request.environment_name)
        found = await self._stores.image_names.revisions(environment, name)
        if not found:
            raise NotFoundError(f"no image is named {name}")
        start = int(request.page_token or 0)
        page = found[start : start + (request.max_objects or _MOST_LISTED)]
        following = start + len(page)
        return api_pb2.ImageTagRevisionsResponse(
            items=[
                api_pb2.ImageTagRevisionsItem(
                    image_id=revision.image_id, revision_id=_revision_id(revision), created_at=revision.created_at
                )
                for revision in page
            ],
            next_page_token=str(following) if following < len(found) else "",
            tag=name,
            environment_name=environment,
        )

    async def image_name_delete(self, request: api_pb2.ImageNameDeleteRequest, caller: Caller) -> Empty:
        environment, name = _split(request.tag, "")
        if not await self._stores.image_names.forget(environment, name):
            raise NotFoundError(f"no image is named {name}")
        return Empty()


def _split(tag: str, environment: str) -> tuple[str, str]:
    """Environment and `name:tag` of what the client sends, which may have the environment before a slash."""
    prefix, _, name = tag.rpartition("/")
    return prefix or environment or DEFAULT_ENVIRONMENT, name if ":" in name else f"{name}:latest"


def _revision_id(revision: Revision) -> str:
    return f"ir-{revision.position}"
