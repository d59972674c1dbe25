"""Which container answers which request, and what waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from modal_proto import api_pb2

from jiffy.core import facts
from jiffy.core.facts import Fact
from jiffy.core.pools import Container
from jiffy.errors import ExhaustedError, UnavailableError
from jiffy.server.known_functions import KnownFunction
from jiffy.server.requests import Requests
from jiffy.server.settings import read_settings


class FakeScaler:
    """Knows containers, and keeps what it is told."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.told: list[Fact] = []
        self.asked_for: list[int] = []
        self.dismissed: list[str] = []
        self.grows = True

    def tell(self, fact: Fact) -> None:
        self.told.append(fact)

    def peek_container(self, task_id: str) -> Container | None:
        return self.containers.get(task_id)

    def may_grow(self, function_id: str) -> bool:
        return self.grows

    def dismiss(self, container: Container, reason: str) -> None:
        self.dismissed.append(container.task_id)

    async def add_demand(self, function_id: str, inputs: int) -> None:
        self.asked_for.append(inputs)


class Server:
    """One with containers, each of which should have 2 requests at once and may have 3."""

    def __init__(self, window: float = 100.0) -> None:
        self.scaler = FakeScaler()
        self.requests = Requests(self.scaler)
        definition = api_pb2.Function(function_name="Server", is_server=True, max_concurrent_inputs=3)
        definition.autoscaler_settings.target_concurrency_float = 2
        definition.autoscaler_settings.scaledown_window = int(window)
        self.function = KnownFunction("fu-1", "fu-1", "ap-1", definition, read_settings(definition))
        self.jobs: list[asyncio.Task[None]] = []

    async def start(self, task_id: str) -> None:
        self.scaler.containers[task_id] = Container(task_id, "fu-1", "ap-1", "wo-1", 0.0)
        self.jobs.append(asyncio.ensure_future(self.requests.serve(self.function, task_id)))
        await asyncio.sleep(0)

    async def enter(self, stack: AsyncExitStack) -> str:
        return await stack.enter_async_context(self.requests.admitted(self.function))


async def test_a_container_is_filled_to_its_target_before_another_and_all_before_more() -> None:
    server = Server()
    await server.start("one")
    await server.start("two")
    async with AsyncExitStack() as stack:
        given = [await server.enter(stack) for _ in range(6)]
    assert given[0] == given[1]
    assert given[2] == given[3] != given[0]
    assert set(given[4:]) == {"one", "two"}
    assert server.scaler.asked_for == [1, 1], "more than the target: another container may be wanted"


async def test_what_is_more_than_all_may_have_is_refused_when_no_other_may_come() -> None:
    server = Server()
    await server.start("one")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await server.enter(stack)
        server.scaler.grows = False
        with pytest.raises(ExhaustedError, match="as many requests as it may"):
            await server.enter(stack)
    async with server.requests.admitted(server.function) as task_id:
        assert task_id == "one"


async def test_requests_wait_for_a_container_that_starts() -> None:
    server = Server()
    stack = AsyncExitStack()
    waiting = [asyncio.ensure_future(server.enter(stack)) for _ in range(4)]
    await asyncio.sleep(0.01)
    count, running, seconds = server.requests.demand("fu-1")
    assert (count, running) == (4, 0) and seconds > 0
    assert server.scaler.asked_for == [1, 1, 1, 1]
    await server.start("one")
    await asyncio.sleep(0)
    assert [each.done() for each in waiting] == [True, True, True, False]
    assert server.requests.demand("fu-1")[:2] == (1, 3)
    await server.start("two")
    assert await waiting[3] == "two"
    await stack.aclose()


async def test_one_that_gave_up_takes_nobodys_place() -> None:
    server = Server()
    stack = AsyncExitStack()
    waiting = [asyncio.ensure_future(server.enter(stack)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert server.requests.demand("fu-1")[:2] == (1, 0)
    await server.start("one")
    assert await waiting[1] == "one"
    assert server.requests.demand("fu-1")[:2] == (0, 1)
    await stack.aclose()
    assert server.requests.demand("fu-1")[:2] == (0, 0)


async def test_one_that_gives_up_as_it_is_admitted_leaves_its_place() -> None:
    server = Server()
    waiting = asyncio.ensure_future(server.enter(AsyncExitStack()))
    await asyncio.sleep(0)
    starting = asyncio.ensure_future(server.start("one"))
    while server.requests.demand("fu-1")[:2] != (0, 1):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, starting, return_exceptions=True)
    assert waiting.cancelled()
    assert server.requests.demand("fu-1")[:2] == (0, 0)


async def test_those_that_wait_are_told_why_no_container_comes() -> None:
    server = Server()
    waiting = asyncio.ensure_future(server.enter(AsyncExitStack()))
    await asyncio.sleep(0)
    server.requests.fail("fu-1", "a mistake of the program")
    with pytest.raises(UnavailableError, match="a mistake of the program"):
        await waiting


async def test_a_container_without_requests_is_told_of_after_its_window() -> None:
    server = Server(window=0)
    server.function.definition.autoscaler_settings.scaledown_window = 0
    object.__setattr__(server.function.settings, "scaledown_window", 0.01)
    await server.start("one")
    async with server.requests.admitted(server.function):
        await asyncio.sleep(0.03)
        assert facts.ContainerRested("one") not in server.scaler.told, "it has a request"
    await asyncio.sleep(0.03)
    assert server.scaler.told.count(facts.ContainerRested("one")) >= 2, "again and again"
    server.requests.forget("fu-1", "one")
    await server.jobs[0]
    told = len(server.scaler.told)
    await asyncio.sleep(0.03)
    assert len(server.scaler.told) == told


async def test_one_that_is_to_end_takes_no_more_and_ends_when_it_has_answered() -> None:
    server = Server()
    await server.start("one")
    await server.start("two")
    async with server.requests.admitted(server.function) as first:
        server.scaler.containers[first].stopping = True
        async with server.requests.admitted(server.function) as second:
            assert second != first
        draining = asyncio.ensure_future(server.requests.drain("fu-1", first, 10))
        await asyncio.sleep(0)
        assert not draining.done() and not server.scaler.dismissed
    await draining
    assert server.scaler.dismissed == [first]


async def test_one_that_does_not_finish_in_time_is_not_waited_for() -> None:
    server = Server()
    await server.start("one")
    async with server.requests.admitted(server.function):
        await server.requests.drain("fu-1", "one", 0.01)
    await server.requests.drain("fu-1", "nobody", 10)
