"""Definitions of images: what the client sent, with the ids in it looked up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from modal_proto import api_pb2

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.image.index import Entry, Kind
from jiffy.image.registry import Credentials
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.server.registries import find_credentials
from jiffy.store.images import ImageContent
from jiffy.store.mounts import CLIENT_REFERENCE
from jiffy.store.stores import Stores

CONTEXT_TIME_NS: Final = 946_684_800 * 10**9
"""What files of a context were last changed at, as the client does not tell: 2000-01-01. Archives cannot hold times before
1980."""


@dataclass(frozen=True, slots=True)
class Definition:
    """`identity` is the same for definitions that mean the same; `context` is an index of the files that COPY finds, empty
    for none. `secrets` are variables for the steps, in no way part of the image."""

    identity: str
    builder_version: str
    lines: tuple[str, ...]
    bases: Mapping[str, ImageContent]
    context: Digest
    context_files: tuple[Entry, ...]
    build_arguments: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    secrets_mark: str = ""
    credentials: Credentials | None = None
    salt: str = ""
    """Not empty where no step of an earlier build may stand for one of this."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def _refuse_unsupported(image: api_pb2.Image) -> None:
    """What only a function that is part of a build can have."""
    if image.gpu_config.count or image.gpu_config.gpu_type:
        raise UnsupportedError(
            "a step of the image's build asks for a GPU", hint="run_function(..., gpu=) can have one"
        )
    if image.volume_mounts:
        raise UnsupportedError(
            "a step of the image's build uses volumes", hint="run_function(..., volumes=) can write to one"
        )


class Definitions:
    """`key` makes marks of secrets that tell nothing of them."""

    def __init__(self, stores: Stores, objects: LocalObjects, key: bytes) -> None:
        self._stores = stores
        self._objects = objects
        self._key = key

    async def identify(self, image: api_pb2.Image, builder_version: str) -> str:
        """A digest of what a definition means: ids that are new for each run are replaced by what they stand for."""
        meant = api_pb2.Image()
        meant.CopyFrom(image)
        meant.secret_ids[:] = [self._mark(await self._variables([each])) for each in image.secret_ids]
        if image.image_registry_config.secret_id:
            variables = await self._variables([image.image_registry_config.secret_id])
            meant.image_registry_config.secret_id = self._mark(variables)
        if image.context_mount_id:
            meant.context_mount_id = (await self._stores.mounts.get(image.context_mount_id)).content
        return hashlib.sha256(f"{builder_version}\n".encode() + meant.SerializeToString(deterministic=True)).hexdigest()

    async def read(self, image: api_pb2.Image, builder_version: str, salt: str) -> Definition:
        """Look up all that a definition names. NotFoundError and UnsupportedError say what is not to be had."""
        if not image.HasField("build_function"):
            _refuse_unsupported(image)
        secrets = await self._variables(image.secret_ids)
        return Definition(
            identity=await self.identify(image, builder_version),
            builder_version=builder_version,
            lines=tuple(image.dockerfile_commands),
            bases={alias.docker_tag: await self._base(alias.image_id) for alias in image.base_images},
            context=await self._context(image.context_mount_id),
            context_files=tuple([self._context_file(file) for file in image.context_files]),
            build_arguments=dict(image.build_args),
            secrets=secrets,
            secrets_mark=self._mark(secrets) if secrets else "",
            credentials=await self._credentials(image.image_registry_config),
            salt=salt,
        )

    async def _base(self, image_id: str) -> ImageContent:
        content = (await self._stores.images.get(image_id)).content
        if content is None:
            raise NotFoundError(f"the base image {image_id} was never finished")
        return content

    async def _context(self, mount_id: str) -> Digest:
        if not mount_id:
            return ""
        content = (await self._stores.mounts.get(mount_id)).content
        if content.startswith(CLIENT_REFERENCE):
            raise InvalidError("the client's own files cannot be copied to an image")
        return content

    def _context_file(self, file: api_pb2.ImageContextFile) -> Entry:
        digest = self._objects.put(file.data) if file.data else ""
        path = b"/" + file.filename.lstrip("/").encode()
        return Entry(path, Kind.FILE, 0o644, mtime_ns=CONTEXT_TIME_NS, size=len(file.data), digest=digest)

    async def _credentials(self, config: api_pb2.ImageRegistryConfig) -> Credentials | None:
        if not config.secret_id:
            return None
        variables = await self._variables([config.secret_id])
        return await asyncio.to_thread(find_credentials, config.registry_auth_type, variables)

    async def _variables(self, secret_ids: Iterable[str]) -> dict[str, str]:
        variables: dict[str, str] = {}
        for secret_id in secret_ids:
            variables.update((await self._stores.secrets.get(secret_id)).variables)
        return variables

    def _mark(self, variables: Mapping[str, str]) -> str:
        text = json.dumps(variables, sort_keys=True).encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
