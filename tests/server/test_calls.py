"""The client's side of calls, without containers: who is told of inputs, and when outputs are given."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

import pytest
from modal_proto import api_pb2

from jiffy.errors import NotFoundError
from jiffy.server import calls as calls_module
from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.server.calls import Calls
from jiffy.server.entries import entry_id
from jiffy.store.calls import Result
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores

CALLER = Caller("", "", "1.6.4", "", 1, "")


@dataclass
class Told:
    """What the scheduler heard, in order."""

    heard: list[str] = field(default_factory=list)

    def call_containers(self, function_id: str, inputs: int) -> None:
        self.heard.append(f"call {inputs}")

    async def add_demand(self, function_id: str, inputs: int, *, called: bool = False) -> None:
        self.heard.append(f"demand {inputs}{' called' if called else ''}")


@dataclass
class Desk:
    calls: Calls
    stores: Stores
    bells: Bells
    told: Told

    async def call(self, inputs: int) -> str:
        items = [api_pb2.FunctionPutInputsItem(idx=number) for number in range(inputs)]
        request = api_pb2.FunctionMapRequest(function_id="fu-1", pipelined_inputs=items)
        return (await self.calls.function_map(request, CALLER)).function_call_id

    async def finish(self, inputs: int) -> None:
        """As a container does."""
        for entry in await self.stores.calls.claim("fu-1", "ta-1", inputs, "key", besides=True):
            body = api_pb2.FunctionGetOutputsItem(input_id=entry.input_id).SerializeToString()
            for call_id in await self.stores.calls.finish("ta-1", [Result(entry.input_id, 0, body)]):
                self.bells.ring(call_id)

    async def outputs(self, call_id: str, after: str = "0-0") -> api_pb2.FunctionGetOutputsResponse:
        request = api_pb2.FunctionGetOutputsRequest(function_call_id=call_id, last_entry_id=after, timeout=50)
        return await self.calls.function_get_outputs(request, CALLER)


@pytest.fixture
async def desk(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Where outputs that come within a minute are given together."""
    monkeypatch.setattr(calls_module, "_GATHER_SECONDS", 60.0)
    await stores.apps.add("ap-1", "a test", api_pb2.APP_STATE_EPHEMERAL)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", api_pb2.Function().SerializeToString()))
    told, bells = Told(), Bells()
    return Desk(Calls(stores, told, bells), stores, bells, told)


async def test_containers_are_called_before_inputs_are_durable_and_the_rest_follows(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync

    def sync(file: int) -> None:
        desk.told.heard.append("sync")
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    await desk.call(2)
    assert desk.told.heard == ["call 2", "sync", "demand 2 called"]


async def test_inputs_that_are_added_to_a_call_call_containers_too(desk: Desk) -> None:
    call_id = await desk.call(0)
    items = [api_pb2.FunctionPutInputsItem(idx=number) for number in range(3)]
    request = api_pb2.FunctionPutInputsRequest(function_call_id=call_id, inputs=items)
    answer = await desk.calls.function_put_inputs(request, CALLER)
    assert len({item.input_id for item in answer.inputs}) == 3
    assert desk.told.heard[-2:] == ["call 3", "demand 3 called"]


@pytest.mark.timeout(20)
async def test_the_first_outputs_of_a_map_are_given_at_once_and_those_that_come_fast_together(desk: Desk) -> None:
    call_id = await desk.call(5)
    await desk.finish(1)
    first = await desk.outputs(call_id)
    assert (list(first.idxs), first.num_unfinished_inputs) == ([0], 4)
    waiting = asyncio.ensure_future(desk.outputs(call_id, first.last_entry_id))
    for _ in range(3):
        await asyncio.sleep(0.05)
        await desk.finish(1)
    assert not waiting.done(), "one more comes"
    await desk.finish(1)
    rest = await waiting
    assert (list(rest.idxs), rest.num_unfinished_inputs) == ([1, 2, 3, 4], 0)


@pytest.mark.timeout(20)
async def test_outputs_that_were_missed_are_given_again(desk: Desk) -> None:
    call_id = await desk.call(3)
    await desk.finish(3)
    assert list((await desk.outputs(call_id)).idxs) == [0, 1, 2]
    assert list((await desk.outputs(call_id)).idxs) == [0, 1, 2]
    last = (await desk.outputs(call_id)).last_entry_id
    assert last != entry_id(0)


@pytest.mark.timeout(20)
async def test_one_output_of_many_that_is_asked_for_by_its_number_is_given_at_once(desk: Desk) -> None:
    call_id = await desk.call(3)
    await desk.finish(2)
    for number in range(2):
        request = api_pb2.FunctionGetOutputsRequest(
            function_call_id=call_id, timeout=50, start_idx=number, end_idx=number
        )
        answer = await desk.calls.function_get_outputs(request, CALLER)
        assert list(answer.idxs) == [number]


async def test_a_call_that_nobody_made_has_no_outputs(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="no call fc-nobody"):
        await desk.outputs("fc-nobody")
