"""What happens at one server of a store is heard at the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from jiffy.errors import NotFoundError, UnavailableError
from jiffy.server.doorbell import Doorbell


class Street:
    """Where announcements are heard by all, as long as no connection breaks."""

    def __init__(self) -> None:
        self.ears: list[asyncio.Queue[str | None]] = []
        self.announced: list[str] = []
        self.is_open = True

    async def announce(self, text: str) -> None:
        await asyncio.sleep(0)
        if not self.is_open:
            raise UnavailableError("the store does not answer")
        self.announced.append(text)
        for ear in self.ears:
            ear.put_nowait(text)

    async def listen(self, hear: Callable[[str], None], ready: Callable[[], None]) -> None:
        ear: asyncio.Queue[str | None] = asyncio.Queue()
        self.ears.append(ear)
        ready()
        while (text := await ear.get()) is not None:
            hear(text)
        self.ears.remove(ear)
        raise UnavailableError("the store does not answer")

    def break_connections(self) -> None:
        for ear in self.ears:
            ear.put_nowait(None)


@pytest.fixture
def street() -> Street:
    return Street()


@pytest.fixture
async def doorbells(street: Street) -> AsyncIterator[list[Doorbell]]:
    made = [Doorbell(street) for _ in range(3)]
    running = [asyncio.ensure_future(doorbell.run()) for doorbell in made]
    await asyncio.sleep(0.01)
    yield made
    for job in running:
        job.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_bell_rings_at_every_server(doorbells: list[Doorbell]) -> None:
    first, second, third = (doorbell.bells for doorbell in doorbells)
    with first.listen("fc-1") as here, second.listen("fc-1") as there, third.listen("fc-2") as other:
        first.ring("fc-1")
        assert await here.wait(1)
        assert await there.wait(1)
        assert not await other.wait(0.05)
        assert not await here.wait(0.05), "it heard itself"


async def test_inputs_that_one_accepts_are_told_to_the_scheduler_of_the_one_that_leads(
    doorbells: list[Doorbell],
) -> None:
    told: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def add_demand(function_id: str, inputs: int) -> None:
        told.put_nowait((function_id, inputs))

    doorbells[0].scheduler = add_demand
    for count in (2, 3):
        await doorbells[1].add_demand("fu-1", count)
    assert await asyncio.wait_for(told.get(), 1) == ("fu-1", 5)


async def test_a_scheduler_that_cannot_be_told_of_one_is_told_of_the_next(doorbells: list[Doorbell]) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def add_demand(function_id: str, inputs: int) -> None:
        if function_id == "fu-gone":
            raise NotFoundError("no function fu-gone")
        told.put_nowait(function_id)

    doorbells[0].scheduler = add_demand
    for function_id in ("fu-1", "fu-gone"):
        await doorbells[1].add_demand(function_id, 1)
    assert await asyncio.wait_for(told.get(), 1) == "fu-1"


async def test_many_rings_are_few_announcements_none_too_long(doorbells: list[Doorbell], street: Street) -> None:
    names = [f"fc-{number:022}" for number in range(1000)]
    with doorbells[1].bells.listen(names[-1]) as bell:
        for name in names:
            doorbells[0].bells.ring(name)
        assert await bell.wait(1)
    assert len(street.announced) < 10
    assert max(map(len, street.announced)) < 8000, "the engine takes no more"


async def test_when_a_connection_broke_everybody_looks_again(doorbells: list[Doorbell], street: Street) -> None:
    with doorbells[1].bells.listen("fc-1") as bell:
        await bell.wait(0.01)
        street.break_connections()
        assert await bell.wait(2)


async def test_what_cannot_be_announced_holds_up_nothing_that_comes_later(
    doorbells: list[Doorbell], street: Street
) -> None:
    with doorbells[1].bells.listen("fc-2") as bell:
        street.is_open = False
        doorbells[0].bells.ring("fc-1")
        await asyncio.sleep(0.05)
        street.is_open = True
        doorbells[0].bells.ring("fc-2")
        assert await bell.wait(2)
