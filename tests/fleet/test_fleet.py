"""A fleet follows what is wanted, whatever its provider and its server do meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from jiffy.core.placement import Need, Placement, Refusal, Room
from jiffy.core.sizing import Wanted
from jiffy.errors import ExhaustedError, JiffyError, UnavailableError
from jiffy.fleet.base import Join, Kind
from jiffy.fleet.buying import buy
from jiffy.fleet.fleet import Fleet
from jiffy.fleet.settings import FleetSettings, OfferSettings
from jiffy.store.stores import Stores, open_stores
from jiffy.store.tokens import TokenKind

GIBIBYTE = 2**30
ONE = Wanted(Need(1000, GIBIBYTE), 1)
CHEAP = OfferSettings(name="cheap", cpus=2, memory=4 * GIBIBYTE, price=0.1)
DEAR = OfferSettings(name="dear", cpus=2, memory=4 * GIBIBYTE, price=0.5, labels=("zone=b",))
SETTINGS = FleetSettings(provider="local", offer=(CHEAP, DEAR), maximum=3, idle_seconds=0)


class Land:
    """A provider whose machines are there at once, and may go."""

    look_seconds = 0.0
    appears_seconds = 60.0

    def __init__(self) -> None:
        self.machines: dict[str, tuple[Kind, Join]] = {}
        self.failure: JiffyError | None = None
        self.forgets = False

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        self.machines[machine_id] = (kind, join)

    async def running(self) -> Collection[str]:
        return [] if self.forgets else list(self.machines)

    async def end(self, machine_id: str) -> None:
        self.machines.pop(machine_id, None)

    async def close(self) -> None: ...


class World:
    """A fleet beside a placement, to which its workers are added by hand."""

    def __init__(self, stores: Stores, settings: FleetSettings = SETTINGS) -> None:
        self.stores = stores
        self.settings = settings
        self.land = Land()
        self.placement = Placement()
        self.wanted: list[Wanted] = []
        self.fleet = self.open()

    def open(self) -> Fleet:
        stores = self.stores
        return Fleet(
            self.settings,
            self.land,
            stores.machines,
            stores.tokens,
            self.placement,
            lambda: self.wanted,
            ("https://gate:9902",),
            "pin",
            buy,
        )

    async def rounds(self, number: int = 2) -> None:
        for _ in range(number):
            await self.fleet.go_round()

    def join(self) -> None:
        """Every machine's worker."""
        for machine_id, (kind, join) in self.land.machines.items():
            offer = kind.offer
            room = Room(f"wo-{machine_id}", offer.cpu_millis, offer.memory_bytes, labels=frozenset(join.labels))
            self.placement.put(room)

    def offers(self) -> list[str]:
        return sorted(kind.offer.name for kind, _ in self.land.machines.values())

    async def states(self) -> list[str]:
        return [machine["state"] for machine in (await self.fleet.describe())["machines"]]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = open_stores(tmp_path / "jiffy.db")
    yield opened
    opened.close()


@pytest.fixture
def world(stores: Stores) -> World:
    return World(stores)


async def test_a_machine_is_started_for_what_has_no_room_and_once_only(world: World) -> None:
    world.wanted = [ONE]
    await world.rounds(3)
    assert world.offers() == ["cheap"]
    assert await world.states() == ["starting"]


async def test_its_worker_joins_with_a_token_of_its_own_and_what_it_must_know(world: World) -> None:
    world.wanted = [Wanted(ONE.need, 1, (frozenset({"zone=b"}),))]
    await world.rounds()
    ((machine_id, (kind, join)),) = world.land.machines.items()
    assert kind.offer.name == "dear"
    assert join.servers == ("https://gate:9902",)
    assert set(join.labels) == {f"machine={machine_id}", "zone=b"}
    token_id, secret, pin = join.token.split(":")
    assert pin == "pin"
    assert await world.stores.tokens.kind_of(token_id, secret) is TokenKind.WORKER


async def test_a_machine_that_nobody_uses_any_more_is_ended_and_its_token_with_it(world: World) -> None:
    world.wanted = [ONE]
    await world.rounds()
    ((machine_id, (_, join)),) = world.land.machines.items()
    world.join()
    world.placement.reserve(f"wo-{machine_id}", "ta-1", ONE.need)
    world.wanted = []
    await world.rounds()
    assert await world.states() == ["busy"]
    world.placement.free("ta-1")
    await world.rounds()
    assert world.land.machines == {}
    assert await world.states() == ["ended"]
    token_id, secret, _ = join.token.split(":")
    assert await world.stores.tokens.kind_of(token_id, secret) is None


async def test_one_that_is_taken_away_is_replaced_if_it_is_still_wanted(world: World) -> None:
    world.wanted = [ONE]
    await world.rounds()
    (first,) = world.land.machines
    world.land.machines.clear()
    await world.rounds()
    (second,) = world.land.machines
    assert second != first
    told = (await world.fleet.describe())["machines"]
    assert [machine["reason"] for machine in told] == ["it is gone", ""]


async def test_one_that_the_provider_does_not_know_yet_is_waited_for(world: World) -> None:
    world.wanted, world.land.forgets = [ONE], True
    await world.rounds(3)
    assert len(world.land.machines) == 1


async def test_a_server_that_starts_anew_goes_on_with_its_machines(world: World) -> None:
    world.wanted = [ONE]
    await world.rounds()
    before = list(world.land.machines)
    world.fleet = world.open()
    await world.rounds()
    assert list(world.land.machines) == before


async def test_machines_that_nobody_knows_are_ended(world: World) -> None:
    """As one that was started by a server which died before it was recorded as started."""
    kind = CHEAP.kind()
    world.land.machines["ma-stray"] = (kind, Join((), "", (), 0))
    await world.rounds()
    assert world.land.machines == {}


async def test_when_there_are_none_of_a_kind_another_is_taken(world: World) -> None:
    world.wanted, world.land.failure = [ONE], ExhaustedError("no such machine for now")
    with pytest.raises(ExhaustedError):
        await world.rounds()
    await world.rounds()
    assert world.offers() == ["dear"]


async def test_one_that_cannot_be_started_is_tried_again_and_its_token_is_no_good(world: World) -> None:
    world.wanted, world.land.failure = [ONE], UnavailableError("the provider does not answer")
    with pytest.raises(UnavailableError):
        await world.rounds()
    assert [token.kind for token in await world.stores.tokens.issued()] == []
    await world.rounds()
    assert world.offers() == ["cheap"]


async def test_what_may_be_had_is_not_refused_for_ever_and_the_obstacle_is_said(world: World) -> None:
    assert world.placement.place(Need(1000, GIBIBYTE)) == Refusal(
        "no machine with 1 CPU and 1024 MiB of memory is there yet", forever=False
    )
    world.wanted = [Wanted(ONE.need, 100)]
    await world.rounds()
    assert len(world.land.machines) == 3
    refusal = world.placement.place(Need(1000, GIBIBYTE))
    assert isinstance(refusal, Refusal) and refusal.reason.endswith("there may be 3 machines")
    world.join()
    large = world.placement.place(Need(64_000, GIBIBYTE))
    assert isinstance(large, Refusal) and large.forever, "no offer has so much"


async def test_what_is_spent_today_is_counted(stores: Stores) -> None:
    world = World(stores, SETTINGS.model_copy(update={"daily": 0.15}))
    world.wanted = [Wanted(ONE.need, 100)]
    await world.rounds()
    told = await world.fleet.describe()
    assert world.offers() == ["cheap"], "another would cost more than the day may"
    assert told["hourly"] == 0.1
    assert 0 < told["spent_today"] < 0.001
    assert "a day may be spent" in told["held_back"]
