"""Simulated clients: each runs one app with some functions, calls them, and checks what it gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from modal_proto import api_pb2

from jiffy.errors import ConflictError, InvalidError, JiffyError, NotFoundError
from jiffy.server.caller import Caller
from jiffy.store.functions import StoredFunction
from tests.sim.network import UnreachableError

if TYPE_CHECKING:
    from tests.sim.world import World

STATUS = api_pb2.GenericResult


class SimClient:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"client-{number}"
        self._requests = 0
        self.is_done = False
        self.app_id = ""

    async def run(self) -> None:
        random = self.world.random
        await asyncio.sleep(random.uniform(0, 5))
        created = await self._ask("app_create", api_pb2.AppCreateRequest(app_state=api_pb2.APP_STATE_EPHEMERAL))
        self.app_id = created.app_id
        heart = asyncio.get_running_loop().create_task(self._beat())
        functions = [await self._define(number) for number in range(random.randint(1, 2))]
        published = {f"f{number}": function_id for number, function_id in enumerate(functions)}
        await self._ask("app_publish", api_pb2.AppPublishRequest(app_id=self.app_id, function_ids=published))
        calls = [self._call(random.choice(functions)) for _ in range(random.randint(2, 6))]
        await asyncio.gather(*calls)
        await asyncio.sleep(random.choice((0, 0, 10)))
        await self._ask("app_client_disconnect", api_pb2.AppClientDisconnectRequest(app_id=self.app_id))
        heart.cancel()
        self.is_done = True
        self.world.note(f"{self.name} is done")

    async def _define(self, number: int) -> str:
        """As FunctionCreate would store it."""
        random = self.world.random
        function_id = f"fu-{self.name}-{number}"
        kept = random.choice((0, 0, 0, 1))
        scaler = api_pb2.AutoscalerSettings(
            min_containers=kept,
            max_containers=random.randint(1, 4),
            buffer_containers=random.choice((0, 0, 1)),
            scaledown_window=random.choice((1, 2, 4, 8, 30)),
        )
        definition = api_pb2.Function(
            function_name=f"f{number}",
            autoscaler_settings=scaler,
            timeout_secs=random.choice((4, 30, 60)),
            startup_timeout_secs=20,
            resources=api_pb2.Resources(
                milli_cpu=125 if kept else random.choice((125, 1000)),
                memory_mb=128 if kept else random.choice((128, 1024, 3000)),
            ),
        )
        stored = StoredFunction(function_id, self.app_id, f"f{number}", b"", definition.SerializeToString())
        await self.world.put_function(stored)
        return function_id

    async def _call(self, function_id: str) -> None:
        random = self.world.random
        await asyncio.sleep(random.uniform(0, random.choice((20, 90))))
        bodies = [f"{_seconds(self.world):.3f}" for _ in range(random.choice((1, 1, 3, 8, 20)))]
        request = api_pb2.FunctionMapRequest(
            function_id=function_id,
            function_call_type=api_pb2.FUNCTION_CALL_TYPE_MAP,
            pipelined_inputs=_items(bodies, 0)[:1],
        )
        made = await self._ask("function_map", request)
        call_id = made.function_call_id
        for first in range(1, len(bodies), 5):
            await asyncio.sleep(random.choice((0, 0.001, 0.5, 1.1, 2.2)))
            put = api_pb2.FunctionPutInputsRequest(
                function_id=function_id, function_call_id=call_id, inputs=_items(bodies[first : first + 5], first)
            )
            await self._ask("function_put_inputs", put)
        if random.random() < 0.1:
            await asyncio.sleep(random.uniform(0, 3))
            await self._ask("function_call_cancel", api_pb2.FunctionCallCancelRequest(function_call_id=call_id))
        await self._collect(call_id, bodies, retries=random.choice((0, 0, 2)))

    async def _collect(self, call_id: str, bodies: list[str], retries: int) -> None:
        """Exactly one output for each input, which is what the input says or a failure with its reason."""
        seen: dict[int, api_pb2.FunctionGetOutputsItem] = {}
        last = ""
        while len(seen) < len(bodies):
            request = api_pb2.FunctionGetOutputsRequest(
                function_call_id=call_id, timeout=20, last_entry_id=last, max_values=10
            )
            answer = await self._ask("function_get_outputs", request)
            last = answer.last_entry_id
            for output in answer.outputs:
                if await self._tries_again(output, bodies, retries):
                    continue
                assert output.idx not in seen, f"{self.name}: output {output.idx} of {call_id} came twice"
                seen[output.idx] = output
                self._check(output, bodies[output.idx])
        self.world.note(f"{self.name}: {call_id} has all {len(bodies)} outputs")

    async def _tries_again(self, output: api_pb2.FunctionGetOutputsItem, bodies: list[str], retries: int) -> bool:
        if output.result.status != STATUS.GENERIC_STATUS_FAILURE or output.retry_count >= retries:
            return False
        item = api_pb2.FunctionRetryInputsItem(
            input_jwt=output.input_id,
            input=api_pb2.FunctionInput(args=bodies[output.idx].encode()),
            retry_count=output.retry_count + 1,
        )
        await self._ask("function_retry_inputs", api_pb2.FunctionRetryInputsRequest(inputs=[item]))
        return True

    def _check(self, output: api_pb2.FunctionGetOutputsItem, body: str) -> None:
        result = output.result
        if result.status == STATUS.GENERIC_STATUS_SUCCESS:
            assert result.data == body.encode(), f"{self.name}: a result of another input"
        else:
            assert result.exception, f"{self.name}: a failure without a reason"
            self.world.note(f"{self.name}: input {output.idx} failed: {result.exception}")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(15)
            await self._ask("app_heartbeat", api_pb2.AppHeartbeatRequest(app_id=self.app_id))

    async def _ask(self, name: str, request: Any) -> Any:
        """As often as it takes, always under the same key."""
        self._requests += 1
        caller = Caller("ak-1", "", "1.6.4", "server", 1, f"{self.name}/{self._requests}")
        while True:
            try:
                return await self.world.ask(self.name, name, request, caller)
            except (NotFoundError, InvalidError, ConflictError):
                raise
            except (UnreachableError, JiffyError):
                await asyncio.sleep(self.world.random.uniform(0.1, 1.0))


def _items(bodies: list[str], first: int) -> list[api_pb2.FunctionPutInputsItem]:
    return [
        api_pb2.FunctionPutInputsItem(idx=first + place, input=api_pb2.FunctionInput(args=body.encode()))
        for place, body in enumerate(bodies)
    ]


def _seconds(world: World) -> float:
    """How long an input works; now and then too long."""
    return world.random.choice((0.01, 0.05, 0.2, 1.0, 3.0)) if world.random.random() < 0.97 else 6.0
