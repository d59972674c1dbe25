"""Requests for inputs: repeated, late, overtaken, given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jiffy.server.queues import Asking, Queues
from jiffy.store.calls import Call, Input, Result
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores


class Front:
    """Queues on a store, and containers that ask."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.queues = Queues(stores.calls)
        self.stopping = False
        self.rests = 0
        self.calls = 0

    def ask(self, key: str, task_id: str = "ta-1", window: float = 30.0) -> asyncio.Task[list[Input] | None]:
        def rest() -> None:
            self.rests += 1

        asking = Asking(task_id, "fu-1", 1, key, window, 0.0, rest, lambda: self.stopping)
        return asyncio.get_running_loop().create_task(self.queues.take(asking))

    async def arrive(self) -> str:
        self.calls += 1
        call = Call(f"fc-{self.calls}", "fu-1", "ap-1", 4, None)
        (input_id,) = await self.stores.calls.add(call, [(0, b"")])
        self.queues.call("fu-1", 1)
        return input_id

    async def given(self, request: asyncio.Task[list[Input] | None]) -> list[str]:
        return [entry.input_id for entry in await asyncio.wait_for(request, 2) or []]


@pytest.fixture
async def front(stores: Stores) -> AsyncIterator[Front]:
    await stores.apps.add("ap-1", "a test", 1)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", b""))
    yield Front(stores)


async def pause() -> None:
    await asyncio.sleep(0.05)


async def test_who_waits_is_given_what_arrives(front: Front) -> None:
    request = front.ask("k1")
    await pause()
    input_id = await front.arrive()
    assert await front.given(request) == [input_id]


async def test_one_input_wakes_one_container(front: Front) -> None:
    first, second = front.ask("k1", "ta-1"), front.ask("k2", "ta-2")
    await pause()
    input_id = await front.arrive()
    assert await front.given(first) == [input_id]
    await pause()
    assert not second.done()
    second.cancel()


async def test_a_request_that_comes_twice_is_given_the_same(front: Front) -> None:
    requests = [front.ask("k1"), front.ask("k1")]
    await pause()
    input_id = await front.arrive()
    front.queues.call("fu-1", 1)
    assert [await front.given(request) for request in requests] == [[input_id], [input_id]]


async def test_a_request_that_comes_late_is_given_nothing_new(front: Front) -> None:
    input_id = await front.arrive()
    assert await front.given(front.ask("k1")) == [input_id]
    await front.stores.calls.finish("ta-1", [Result(input_id, 0, b"")])
    await front.arrive()
    assert await front.given(front.ask("k1")) == []
    assert (await front.stores.calls.demand("fu-1", 10)).waiting == 1


async def test_a_later_request_takes_the_place_of_one_that_waits(front: Front) -> None:
    first = front.ask("k1")
    await pause()
    second = front.ask("k2")
    assert await front.given(first) == []
    input_id = await front.arrive()
    assert await front.given(second) == [input_id]


async def test_the_call_of_one_that_leaves_goes_to_the_next(front: Front) -> None:
    first, second = front.ask("k1", "ta-1"), front.ask("k2", "ta-2")
    await pause()
    call = Call("fc-9", "fu-1", "ap-1", 4, None)
    (input_id,) = await front.stores.calls.add(call, [(0, b"")])
    front.queues.call("fu-1", 1)
    first.cancel()
    assert await front.given(second) == [input_id]


async def test_one_that_is_to_end_is_told_so(front: Front) -> None:
    request = front.ask("k1")
    await pause()
    front.stopping = True
    front.queues.call_all("fu-1")
    assert await asyncio.wait_for(request, 2) is None


async def test_each_window_without_an_input_is_told(front: Front) -> None:
    request = front.ask("k1", window=0.05)
    await asyncio.sleep(0.3)
    assert front.rests >= 2
    request.cancel()
