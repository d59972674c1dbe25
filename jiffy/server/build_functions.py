"""Functions that build images: run once in a container of the base, of which what it changed is kept."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass, field, replace
from typing import Final

from modal_proto import api_pb2

from jiffy.core.events import ChangeCaptured, Event, LogWritten
from jiffy.errors import InvalidError, NotFoundError, UnavailableError
from jiffy.identifiers import random_id
from jiffy.server.bells import Bells
from jiffy.server.launches import Launches
from jiffy.server.layers import Layers
from jiffy.server.scheduler import Scheduler
from jiffy.server.step_output import OutputLines
from jiffy.server.steps import Hear
from jiffy.store.calls import Call
from jiffy.store.images import ImageContent
from jiffy.store.stores import Stores

_CAPTURE_SECONDS: Final = 120.0
_NOT_THE_IMAGE: Final = (b"/pkg", b"/__modal", b"/root/__pycache__")
"""Where the client's and the program's own files are, in the container only."""

_MOUNTED: Final = (
    b"/etc/resolv.conf",
    b"/etc/hosts",
    b"/etc/hostname",
    b"/run/jiffy/arguments",
    b"/dev",
    b"/proc",
    b"/sys",
)


@dataclass(slots=True)
class _Running:
    lines: OutputLines
    change: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BuildFunctions:
    def __init__(self, stores: Stores, scheduler: Scheduler, launches: Launches, layers: Layers, bells: Bells) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._launches = launches
        self._layers = layers
        self._bells = bells
        self._running: dict[str, _Running] = {}

    async def run(
        self, base: ImageContent, function_id: str, given: api_pb2.FunctionInput, report: Hear
    ) -> ImageContent:
        """The base with what the function wrote. InvalidError with its exception when it fails."""
        function = await self._stores.functions.get(function_id)
        definition = api_pb2.Function.FromString(function.definition or b"")
        report(f"=> Running {definition.function_name}")
        secrets = await self._launches.secrets(definition)
        running = self._running[function_id] = _Running(OutputLines(report, secrets.values()))
        try:
            call_id = await self._call(function_id, function.app_id, given)
            await self._await_output(call_id, definition.function_name)
            change = await asyncio.wait_for(running.change, _CAPTURE_SECONDS)
        except TimeoutError:
            raise UnavailableError("what the function changed was not told in time") from None
        finally:
            running.lines.end()
            del self._running[function_id]
        above = (await self._launches.layers(definition))[len(base.layers) :]
        return replace(base, layers=await asyncio.to_thread(self._apply, base, change, above))

    def heard(self, event: Event) -> None:
        """A worker tells something of a container, which may run one of these."""
        container = self._scheduler.peek_container(getattr(event, "task_id", ""))
        running = self._running.get(container.function_id) if container is not None else None
        if running is None:
            return
        if isinstance(event, LogWritten):
            running.lines.hear(event.text)
        elif isinstance(event, ChangeCaptured) and not running.change.done():
            running.change.set_result(event.change)

    def _apply(self, base: ImageContent, change: str, above: tuple[str, ...]) -> tuple[str, ...]:
        return self._layers.add_change(base.layers, change, _MOUNTED, _NOT_THE_IMAGE, above)

    async def _call(self, function_id: str, app_id: str, given: api_pb2.FunctionInput) -> str:
        """One input, the last that its container gets."""
        body = api_pb2.FunctionInput()
        body.CopyFrom(given)
        if not body.args:
            body.args = pickle.dumps(((), {}))
            body.data_format = api_pb2.DATA_FORMAT_PICKLE
        body.final_input = True
        kind = api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC
        call = Call(random_id("fc"), function_id, app_id, kind, None)
        await self._stores.calls.add(call, [(0, body.SerializeToString())])
        await self._scheduler.add_demand(function_id, 1)
        return call.call_id

    async def _await_output(self, call_id: str, name: str) -> None:
        with self._bells.listen(call_id) as bell:
            while not (outputs := await self._stores.calls.outputs_numbered(call_id, 0, 0)):
                await bell.wait(_CAPTURE_SECONDS)
        result = api_pb2.FunctionGetOutputsItem.FromString(outputs[0].body).result
        if result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
            raise InvalidError(f"the build function {name} failed", why=result.exception or "it was stopped")


def require_function(function_id: str) -> str:
    """The id that a definition with a build function must come with."""
    if not function_id:
        raise NotFoundError("the image's build function was not created")
    return function_id
