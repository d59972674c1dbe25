"""The builds under way: one for each image that somebody wants, however many ask for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from modal_proto import api_pb2

from jiffy import failpoints
from jiffy.errors import JiffyError
from jiffy.server.bells import Bells
from jiffy.server.build_functions import BuildFunctions, require_function
from jiffy.server.build_log import BuildLog
from jiffy.server.builder import Builder
from jiffy.server.definitions import Definitions
from jiffy.server.derivations import Derivations, has_dependencies
from jiffy.store.images import ImageContent, StoredImage
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)


Report = Callable[[str], None]


@dataclass(slots=True)
class Build:
    """One image on its way; its lines are in the store. `failure` is set when it cannot be made. `apps` are those that
    want it: it is stopped when all of them have ended. `began` once the lines of an earlier try are gone."""

    job: asyncio.Task[None] | None = None
    failure: str = ""
    apps: set[str] = field(default_factory=set)
    began: asyncio.Event = field(default_factory=asyncio.Event)


class Builds:
    def __init__(
        self,
        stores: Stores,
        definitions: Definitions,
        builder: Builder,
        build_functions: BuildFunctions,
        derivations: Derivations,
        bells: Bells,
    ) -> None:
        self._stores = stores
        self._definitions = definitions
        self._builder = builder
        self._build_functions = build_functions
        self._derivations = derivations
        self._bells = bells
        self._builds: dict[str, Build] = {}

    def build(self, image: StoredImage, client_version: str, app_id: str = "") -> Build:
        """The build of an image, started if it is not under way. A failed one is tried again."""
        build = self._builds.get(image.image_id)
        if build is None or build.failure:
            build = self._builds[image.image_id] = Build()
            build.job = asyncio.ensure_future(self._run(build, image, client_version))
        if app_id:
            build.apps.add(app_id)
        return build

    def app_ended(self, app_id: str) -> None:
        """Stop what only this app wanted."""
        for build in self._builds.values():
            if app_id in build.apps:
                build.apps.discard(app_id)
                if not build.apps and build.job is not None:
                    build.job.cancel()

    async def close(self) -> None:
        jobs = [build.job for build in self._builds.values() if build.job is not None]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _run(self, build: Build, image: StoredImage, client_version: str) -> None:
        log = BuildLog(image.image_id, self._stores.logs, self._bells)
        failure = ""
        try:
            await self._stores.logs.forget(image.image_id)
            build.began.set()
            content = await self._make(image, log.report)
            await self._prepare_client(image, content, client_version, log.report)
            await log.settle()
            failpoints.reach("image-made")
            await self._stores.images.complete(image.image_id, content)
            failpoints.reach("image-recorded")
        except JiffyError as error:
            failure = str(error)
        except asyncio.CancelledError:
            failure = "the build was stopped: the app that wanted it has ended"
            raise
        except Exception as error:
            logger.exception("the build of %s failed", image.image_id)
            failure = f"jiffy failed to make the image: {error!r}; see its log"
        finally:
            await log.settle()
            build.failure = failure
            build.began.set()
            if not build.failure:
                del self._builds[image.image_id]
            self._bells.ring(image.image_id)

    async def _make(self, image: StoredImage, report: Report) -> ImageContent:
        message = api_pb2.Image.FromString(image.definition)
        definition = await self._definitions.read(message, image.builder_version, image.salt)
        if not message.HasField("build_function"):
            return await self._builder.build(definition, report)
        (base,) = definition.bases.values()
        function_id, given = require_function(image.build_function_id), message.build_function.input
        content = await self._build_functions.run(base, function_id, given, report)
        return await self._builder.inspect(content, report)

    async def _prepare_client(
        self, image: StoredImage, content: ImageContent, client_version: str, report: Report
    ) -> None:
        """What containers of the image will need, so that their first start does not wait for it."""
        if content.python:
            await self._derivations.client_layer(client_version, content, report)
            if not has_dependencies(image.builder_version):
                await self._derivations.dependencies_layer(image.builder_version, client_version, content, report)
