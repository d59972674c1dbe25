"""Apps of the API: created, published, kept alive by heartbeats, ended."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy import failpoints
from jiffy.errors import JiffyError, NotFoundError
from jiffy.server.bells import Bells
from jiffy.server.builds import Builds
from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.scheduler import Scheduler
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

HEARTBEAT_GRACE: Final = 60.0
WATCH_SECONDS: Final = 5.0
_ATTENDED: Final = (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING)


class Apps:
    def __init__(self, stores: Stores, scheduler: Scheduler, builds: Builds, bells: Bells) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._builds = builds
        self._bells = bells
        self._started_at = time.time()

    async def app_create(self, request: api_pb2.AppCreateRequest, caller: Caller) -> api_pb2.AppCreateResponse:
        app_id = caller.new_id("ap")
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        await self._stores.apps.add(app_id, request.description, request.app_state, environment, dict(request.tags))
        failpoints.reach("app-created")
        return api_pb2.AppCreateResponse(app_id=app_id, app_page_url=caller.url(f"/apps/{app_id}"))

    async def app_heartbeat(self, request: api_pb2.AppHeartbeatRequest, caller: Caller) -> Empty:
        app = await self._stores.apps.get(request.app_id)
        if app.stopped_at is not None:
            raise NotFoundError(f"app {request.app_id} was stopped")
        await self._stores.apps.beat(request.app_id)
        return Empty()

    async def app_client_disconnect(self, request: api_pb2.AppClientDisconnectRequest, caller: Caller) -> Empty:
        app = await self._stores.apps.get(request.app_id)
        if app.state == api_pb2.APP_STATE_DETACHED:
            await self._stores.apps.set_state(app.app_id, api_pb2.APP_STATE_DETACHED_DISCONNECTED)
        elif app.state != api_pb2.APP_STATE_DEPLOYED:
            await self._stop(app.app_id, "its client disconnected")
        return Empty()

    async def app_stop(self, request: api_pb2.AppStopRequest, caller: Caller) -> Empty:
        await self._stores.apps.get(request.app_id)
        await self._stop(request.app_id, "it was stopped")
        return Empty()

    async def watch_forever(self) -> None:
        """Stop apps whose client is gone, and detached ones whose work is done."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._stop_abandoned()
                await self._scheduler.stop_strays()
                await self._scheduler.watch_claims()
            except JiffyError as error:
                logger.error("looking after apps failed: %s", error)

    async def _stop_abandoned(self) -> None:
        for app in await self._stores.apps.live():
            silence = time.time() - max(app.heartbeat_at, self._started_at)
            if app.state in _ATTENDED and silence > HEARTBEAT_GRACE:
                await self._stop(app.app_id, f"its client sent no heartbeat for {silence:.0f} s")
            elif app.state == api_pb2.APP_STATE_DETACHED_DISCONNECTED and await self._is_idle(app.app_id):
                await self._stop(app.app_id, "its work is done")

    async def _stop(self, app_id: str, reason: str) -> None:
        if await self._stores.apps.set_state(app_id, api_pb2.APP_STATE_STOPPED, stopped=True):
            failpoints.reach("app-stopped")
            self._builds.app_ended(app_id)
            await self._scheduler.stop_app(app_id, reason)
        self._bells.ring(app_id)

    async def _is_idle(self, app_id: str) -> bool:
        return not self._scheduler.containers_of(app_id) and not await self._stores.calls.unfinished_of_app(app_id)
