"""The worker's connection to its server: orders come in, events go out until they are acknowledged.

The server may die and come back, at another address too; what it had not acknowledged is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp

from jiffy.addresses import read_address
from jiffy.core.actions import Action
from jiffy.core.events import ContainerExited, Event, LogWritten, WorkerConnected, WorkerReported
from jiffy.core.messages import describe, read_action
from jiffy.datadir import read_token
from jiffy.errors import ConflictError, InvalidError, JiffyError, UnauthenticatedError

logger = logging.getLogger(__name__)

_MOST_LOG_BYTES: Final = 64 * 2**20
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_REPORT_SECONDS: Final = 2.0


class Outbox:
    """Events that the server has not acknowledged, in order."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, Event]] = deque()
        self._sequence = 0
        self._log_bytes = 0
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        self._sequence += 1
        self._events.append((self._sequence, event))
        self._log_bytes += _log_size(event)
        self._changed.set()

    def acknowledge(self, sequence: int) -> None:
        while self._events and self._events[0][0] <= sequence:
            self._log_bytes -= _log_size(self._events.popleft()[1])

    def is_full(self) -> bool:
        """Logs pile up: containers should wait."""
        return self._log_bytes > _MOST_LOG_BYTES

    def after(self, sequence: int) -> list[tuple[int, Event]]:
        if not self._events or self._events[-1][0] <= sequence:
            return []
        return [(number, event) for number, event in self._events if number > sequence]

    async def wait(self) -> None:
        """Until something was put since the last wait."""
        await self._changed.wait()
        self._changed.clear()

    def ended(self) -> set[str]:
        """Containers whose end the server has not acknowledged."""
        return {event.task_id for _, event in self._events if isinstance(event, ContainerExited)}

    def is_empty(self) -> bool:
        return not self._events


class Socket(Protocol):
    """A connection that carries text."""

    async def send_str(self, data: str) -> None: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...


class Connection:
    """`find_server` gives the server's HTTP address and token, or raises OSError; `hello` introduces the worker."""

    def __init__(
        self,
        find_server: Callable[[], tuple[str, str]],
        hello: Callable[[], WorkerConnected],
        report: Callable[[], WorkerReported],
        obey: Callable[[Action], None],
    ) -> None:
        self.outbox = Outbox()
        self._find_server = find_server
        self._hello = hello
        self._make_report = report
        self._obey = obey
        self.lost_at = time.monotonic()
        """When the server was last heard; meaningful while there is no connection."""
        self.connected = False
        self.refusal: JiffyError | None = None
        """Why the server does not take this worker, if it never has."""
        self._was_taken = False
        self._report_due = asyncio.Event()
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def leave(self) -> None:
        """Tell the server that this worker does not come back."""
        if self._socket is not None:
            await self._socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    def report_now(self) -> None:
        self._report_due.set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._connect_once()
                pause = _FIRST_PAUSE
            except (UnauthenticatedError, ConflictError) as error:
                logger.error("%s", error)
                self.refusal = None if self._was_taken else error
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                logger.info("no server: %s", error)
            if self.connected:
                self.connected = False
                self.lost_at = time.monotonic()
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    async def _connect_once(self) -> None:
        text, token = self._find_server()
        address = read_address(text)
        async with aiohttp.ClientSession() as session:
            try:
                socket = await session.ws_connect(
                    f"{address.url}/worker",
                    headers={"Authorization": f"Bearer {token}"},
                    heartbeat=5,
                    max_msg_size=64 * 2**20,
                    ssl=aiohttp.Fingerprint(address.pin) if address.pin else True,
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401:
                    raise UnauthenticatedError(
                        f"{address.url} refused the token", hint="ask it for a new one: `jiffy token create`"
                    ) from error
                raise
            except aiohttp.ServerFingerprintMismatch as error:
                raise address.stranger() from error
            async with socket:
                self._socket = socket
                await self.talk(socket)

    async def talk(self, socket: Socket) -> None:
        """Introduce the worker and go on until the connection ends."""
        await socket.send_str(json.dumps({"event": describe(self._hello())}))
        self.connected = True
        senders = [asyncio.ensure_future(self._send_events(socket)), asyncio.ensure_future(self._send_reports(socket))]
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._receive(json.loads(message.data))
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    def _receive(self, envelope: dict[str, Any]) -> None:
        if "refused" in envelope:
            raise ConflictError(envelope["refused"])
        self._was_taken = True
        if "acknowledged" in envelope:
            self.outbox.acknowledge(int(envelope["acknowledged"]))
            return
        try:
            self._obey(read_action(envelope.get("action")))
        except InvalidError as error:
            logger.error("an order that makes no sense: %s", error)

    async def _send_events(self, socket: Socket) -> None:
        sent = 0
        while True:
            for sequence, event in self.outbox.after(sent):
                await socket.send_str(json.dumps({"sequence": sequence, "event": describe(event)}))
                sent = sequence
            await self.outbox.wait()

    async def _send_reports(self, socket: Socket) -> None:
        while True:
            await socket.send_str(json.dumps({"event": describe(self._make_report())}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await self._report_due.wait()
            self._report_due.clear()


def local_server(address: Path, token: Path) -> tuple[str, str]:
    """The address and token of the server that shares this worker's data directory."""
    return json.loads(address.read_text())["http_url"], read_token(token)


def _log_size(event: Event) -> int:
    return len(event.text) if isinstance(event, LogWritten) else 0
