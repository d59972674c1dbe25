"""Images that were imported beside the server: their tree is in the store, what they are is told here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import asdict
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from jiffy.errors import InvalidError, NotFoundError
from jiffy.identifiers import derived_id
from jiffy.image.index import Index
from jiffy.image.reference import parse_reference
from jiffy.objects.base import check_digest
from jiffy.objects.local import LocalObjects
from jiffy.server.builder import Builder
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.oci_config import read_config
from jiffy.server.remote_objects import RemoteObjects
from jiffy.store.images import StoredImage
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)


class Imports:
    def __init__(self, stores: Stores, objects: LocalObjects, builder: Builder, remote: RemoteObjects) -> None:
        self._stores = stores
        self._objects = objects
        self._builder = builder
        self._remote = remote

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """POST an image: it exists from then on, and its references and names mean it."""
        try:
            order = _Order.model_validate_json(await request.read())
        except ValidationError as error:
            raise InvalidError("not an image", why=str(error.errors()[0]["msg"])) from error
        await asyncio.to_thread(self._check, check_digest(order.index), order.lazy)
        await self._remote.learn(order.index, [check_digest(digest) for digest in order.first])
        image = await self._add(order)
        for reference in order.references:
            await self._stores.image_names.refer(str(parse_reference(reference)), image.image_id)
        for name in order.names:
            full = name if ":" in name else f"{name}:latest"
            await self._stores.image_names.publish(DEFAULT_ENVIRONMENT, full, image.image_id)
        assert image.content is not None
        return web.json_response({"image_id": image.image_id, **asdict(image.content)})

    async def _add(self, order: _Order) -> StoredImage:
        content = read_config(order.index, order.config)
        meant = json.dumps(asdict(content), sort_keys=True)
        identity = hashlib.sha256(meant.encode()).hexdigest()
        image_id = derived_id("im", "import", identity)
        await self._stores.images.add(StoredImage(image_id, "", b"", f"import/{identity}"))
        image = await self._stores.images.get(image_id)
        if image.content is None:
            content = await self._builder.inspect(content, logger.info)
            await self._stores.images.complete(image_id, content)
        return await self._stores.images.get(image_id)

    def _check(self, index: str, lazy: bool) -> None:
        """The files of one that is `lazy` are in its registry."""
        if not self._objects.keep(index):
            raise NotFoundError(f"no object {index}", hint="send the index before the image")
        if lazy:
            return
        listed = {digest for digest, _ in Index.from_file(self._objects.path(index)).digests()}
        if missing := self._objects.missing(listed):
            raise NotFoundError(f"{len(missing)} files of the image were not sent", why=f"{missing[0]} is not here")


class _Order(BaseModel):
    index: str
    config: dict[str, Any] = {}
    references: list[str] = []
    names: list[str] = []
    first: list[str] = []
    lazy: bool = False
