"""`@app.server`: HTTP servers that programs run in containers. Requests are passed on to them as they come.

A container has as many requests at once as its program says; how many containers there are follows from that
(`requests.py`). One is ready when something answers on its port.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2
from yarl import URL

from jiffy.errors import ExhaustedError, JiffyError, UnavailableError
from jiffy.jobs import Jobs
from jiffy.server.caller import Caller
from jiffy.server.channels import Channels
from jiffy.server.known_functions import KnownFunction
from jiffy.server.proxying import headers_of, is_socket, pass_request, pass_socket
from jiffy.server.scheduler import Scheduler
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_IDLE_SECONDS: Final = 15.0
_CREDENTIALS: Final = ("modal-key", "modal-secret")
_FORWARDED: Final = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix")


class AppServers:
    def __init__(self, stores: Stores, scheduler: Scheduler, channels: Channels) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._channels = channels
        self._sessions: dict[str, _Sessions] = {}
        self._jobs = Jobs()

    async def container_server_lifecycle_ready(
        self, request: api_pb2.ContainerServerLifecycleReadyRequest, caller: Caller
    ) -> Empty:
        """The program has begun its server, which may need a moment until it answers."""
        task_id = caller.require_task()
        await self._stores.tasks.mark(task_id, "hello_at")
        self.await_ready(await self._scheduler.function(self._scheduler.find_container(task_id).function_id), task_id)
        return Empty()

    def await_ready(self, function: KnownFunction, task_id: str) -> None:
        """Have requests come to a container once its port answers; nothing happens when they do already."""
        if task_id not in self._sessions:
            self._sessions[task_id] = _Sessions(self._channels, self._scheduler, task_id, _port(function))
            self._jobs.begin(self._serve(function, task_id))

    async def restore(self) -> None:
        """Of an earlier server: the containers that lived then may still answer."""
        for container in self._scheduler.containers():
            function = await self._scheduler.function(container.function_id)
            if function.definition.is_server:
                self.await_ready(function, container.task_id)

    async def find(self, function_id: str) -> KnownFunction | None:
        """A function that is a server."""
        function = await self._scheduler.function(function_id)
        return function if function.definition.is_server else None

    async def answer(self, request: web.Request, function: KnownFunction, root: str, path: str) -> web.StreamResponse:
        """Have a container answer a request; `path` is what its server sees, below `root`."""
        headers = headers_of(request, *_CREDENTIALS, *_FORWARDED)
        headers["X-Forwarded-For"] = request.remote or "127.0.0.1"
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Proto"] = request.headers.get("X-Forwarded-Proto", request.scheme)
        if root:
            headers["X-Forwarded-Prefix"] = root
        query = request.rel_url.raw_query_string
        url = URL(f"http://{request.host}{path}" + (f"?{query}" if query else ""), encoded=True)
        try:
            async with self._scheduler.requests.admitted(function) as task_id:
                if (sessions := self._sessions.get(task_id)) is None:
                    raise UnavailableError(f"container {task_id} has ended")
                return await self._pass_on(request, sessions, url, headers)
        except ExhaustedError as error:
            return web.Response(status=429, text=f"{error}\n", headers={"Retry-After": "1"})
        except aiohttp.ClientError as error:
            raise UnavailableError("the server broke off", why=str(error) or repr(error)) from error

    async def close(self) -> None:
        await self._jobs.cancel()
        for sessions in self._sessions.values():
            await sessions.close()

    async def _pass_on(
        self, request: web.Request, sessions: _Sessions, url: URL, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        if is_socket(request):
            return await pass_socket(request, sessions.fresh, url, headers)
        return await pass_request(request, sessions.fresh if request.can_read_body else sessions.kept, url, headers)

    async def _forget(self, task_id: str) -> None:
        if (sessions := self._sessions.pop(task_id, None)) is not None:
            await sessions.close()

    async def _serve(self, function: KnownFunction, task_id: str) -> None:
        pause = _FIRST_PAUSE
        while (container := self._scheduler.peek_container(task_id)) is not None and not container.stopping:
            try:
                (await self._channels.open(container.worker_id, task_id, _port(function))).close()
                break
            except JiffyError as error:
                logger.info("%s is not ready: %s", task_id, error)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)
        else:
            await self._forget(task_id)
            return
        await self._stores.tasks.mark(task_id, "ready_at")
        await self._scheduler.requests.serve(function, task_id)
        await self._forget(task_id)


class _Sessions:
    """Connections to one container. `kept`: they are used again. `fresh`: each for one request, whose body could not be sent
    again."""

    def __init__(self, channels: Channels, scheduler: Scheduler, task_id: str, port: int) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        ways = (
            _Connector(channels, scheduler, task_id, port, force_close=False),
            _Connector(channels, scheduler, task_id, port, force_close=True),
        )
        self.kept, self.fresh = (
            aiohttp.ClientSession(
                connector=way, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
            for way in ways
        )

    async def close(self) -> None:
        await self.kept.close()
        await self.fresh.close()


class _Connector(aiohttp.BaseConnector):
    """Connects by channels. aiohttp has connectors for kinds of addresses only, each of which does the same with it."""

    def __init__(self, channels: Channels, scheduler: Scheduler, task_id: str, port: int, *, force_close: bool) -> None:
        if force_close:
            super().__init__(limit=0, force_close=True)
        else:
            super().__init__(limit=0, keepalive_timeout=_IDLE_SECONDS)
        self._channels = channels
        self._scheduler = scheduler
        self._task_id = task_id
        self._port = port

    async def _create_connection(self, *_: object) -> ResponseHandler:
        worker_id = self._scheduler.find_container(self._task_id).worker_id
        connection = await self._channels.open(worker_id, self._task_id, self._port)
        made: tuple[object, ResponseHandler] = await self._loop.create_connection(self._factory, sock=connection)
        return made[1]


def _port(function: KnownFunction) -> int:
    return function.definition.http_config.port
