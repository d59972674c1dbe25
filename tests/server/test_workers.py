"""A worker's connection: what it tells is recorded to the last, and its end is noticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from jiffy.core.actions import CommitVolume, LaunchContainer, StopContainer
from jiffy.core.events import (
    PROTOCOL,
    ContainerExited,
    Event,
    ExitReason,
    VolumeAnswered,
    WorkerConnected,
    WorkerReported,
)
from jiffy.core.messages import describe
from jiffy.core.placement import Room
from jiffy.errors import UnavailableError
from jiffy.server.workers import Workers
from tests.sim.network import Network, Socket, connect

HELLO = WorkerConnected("wo-1", (), 2000, 2**30, 9901, PROTOCOL)


@dataclass
class Listener:
    """It records once it may."""

    may_record: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    recorded: list[int] = field(default_factory=list)
    parted: list[str] = field(default_factory=list)

    async def worker_connected(self, event: WorkerConnected, room: Room) -> None: ...

    async def events_arrived(self, worker_id: str, events: Sequence[tuple[int, Event]]) -> None:
        await self.may_record.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the store does not answer")
        self.recorded += [sequence for sequence, _ in events]

    def worker_reported(self, report: WorkerReported, room: Room) -> None: ...

    def worker_disconnected(self, worker_id: str, *, for_good: bool) -> None:
        self.parted.append(worker_id)

    async def worker_fenced(self, worker_id: str) -> None: ...


class House:
    """Workers, and one that is connected."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.listener = self.workers.listener = Listener()
        network = Network(Random(1))
        network.heal()
        self.worker, self.server = connect(network, "worker", "server")
        self.talk = asyncio.get_running_loop().create_task(self.workers.talk(self.server))

    async def tell(self, sequence: int) -> None:
        event = ContainerExited(f"ta-{sequence}", 0, ExitReason.FINISHED, "", 1.0)
        await self.worker.send_str(json.dumps({"sequence": sequence, "event": describe(event)}))

    async def settle(self) -> None:
        await asyncio.sleep(0.05)


async def open_house() -> House:
    house = House()
    await house.worker.send_str(json.dumps({"event": describe(HELLO)}))
    return house


async def told(socket: Socket) -> dict[str, object]:
    message: dict[str, object] = json.loads(await asyncio.wait_for(socket.receive_str(), 2))
    return message


async def test_what_came_before_the_end_of_a_connection_is_recorded_and_the_end_is_noticed() -> None:
    house = await open_house()
    for sequence in (1, 2):
        await house.tell(sequence)
        await house.settle()
    await house.worker.close()
    await house.settle()
    house.listener.may_record.set()
    await asyncio.wait_for(house.talk, 2)
    assert house.listener.recorded == [1, 2]
    assert house.listener.parted == ["wo-1"]


async def test_what_a_failing_store_did_not_record_is_recorded_later_and_then_acknowledged() -> None:
    house = await open_house()
    house.listener.failures = 1
    house.listener.may_record.set()
    await house.tell(1)
    assert await told(house.worker) == {"acknowledged": 1}
    assert house.listener.recorded == [1]
    await house.worker.close()


async def test_orders_are_sent_again_until_their_container_is_forgotten() -> None:
    house = await open_house()
    house.listener.may_record.set()
    await house.settle()
    for task_id in ("ta-1", "ta-2"):
        house.workers.send("wo-1", LaunchContainer(task_id, (), ()))
    house.workers.send("wo-1", StopContainer("ta-2", "a test"))
    house.workers.forget("wo-1", "ta-1")
    await house.worker.close()
    await asyncio.wait_for(house.talk, 2)
    network = Network(Random(1))
    network.heal()
    again, server = connect(network, "worker", "server")
    talk = asyncio.get_running_loop().create_task(house.workers.talk(server))
    await again.send_str(json.dumps({"event": describe(HELLO)}))
    kinds = [(await told(again))["action"]["kind"] for _ in range(2)]  # type: ignore[index]
    assert kinds == ["LaunchContainer", "StopContainer"]
    await again.close()
    await asyncio.wait_for(talk, 2)


async def test_an_order_about_a_volume_is_not_sent_again_once_it_was_obeyed() -> None:
    house = await open_house()
    house.listener.may_record.set()
    await house.settle()
    house.workers.send("wo-1", LaunchContainer("ta-1", (), ()))
    for request_id in ("vc-1", "vc-2"):
        house.workers.send("wo-1", CommitVolume("ta-1", "vo-1", request_id))
    answer = {"sequence": 1, "event": describe(VolumeAnswered("ta-1", "vc-1"))}
    await house.worker.send_str(json.dumps(answer))
    await house.worker.close()
    await asyncio.wait_for(house.talk, 2)
    network = Network(Random(1))
    network.heal()
    again, server = connect(network, "worker", "server")
    talk = asyncio.get_running_loop().create_task(house.workers.talk(server))
    await again.send_str(json.dumps({"event": describe(HELLO)}))
    orders = [(await told(again))["action"] for _ in range(2)]
    assert [order.get("request_id") for order in orders] == [None, "vc-2"]  # type: ignore[attr-defined]
    await again.close()
    await asyncio.wait_for(talk, 2)


async def test_a_worker_of_another_version_is_told_why_it_cannot_join() -> None:
    house = House()
    hello = replace(HELLO, protocol=PROTOCOL + 1, version="9.9")
    await house.worker.send_str(json.dumps({"event": describe(hello)}))
    refused = str((await told(house.worker))["refused"])
    assert "9.9" in refused and "run the same version" in refused
    await asyncio.wait_for(house.talk, 2)
    assert house.workers.connected() == []


async def test_one_that_does_not_introduce_itself_is_refused() -> None:
    house = House()
    await house.tell(1)
    assert "must introduce itself" in str((await told(house.worker))["refused"])
