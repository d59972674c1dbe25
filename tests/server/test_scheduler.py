"""The scheduler between store and workers: what it orders, and what it makes of every way that a container can end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from modal_proto import api_pb2

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import PROTOCOL, ContainerExited, Event, ExitReason, WorkerConnected
from jiffy.core.placement import Room
from jiffy.errors import ExhaustedError, UnavailableError
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.server.bells import Bells
from jiffy.server.channels import Channels
from jiffy.server.execs import Execs
from jiffy.server.known_functions import KnownFunction
from jiffy.server.profiles import Profiles
from jiffy.server.restoring import restore
from jiffy.server.scheduler import Scheduler
from jiffy.server.steps import Steps
from jiffy.server.volume_mounts import VolumeMounts
from jiffy.server.worker_events import WorkerEvents
from jiffy.store.calls import Call, Calls, Result, Settled
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores, open_stores
from jiffy.store.tasks import Tasks

STATUS = api_pb2.GenericResult


ROOM = Room("wo-1", cpu_millis=8000, memory_bytes=8 * 2**30)
FULL = Room("wo-1", cpu_millis=8000, memory_bytes=1)


@dataclass
class Connections:
    """Workers that remember what they were told."""

    orders: list[Action] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)

    def send(self, worker_id: str, action: Action) -> None:
        self.orders.append(action)

    def forget(self, worker_id: str, task_id: str) -> None: ...

    def fence(self, worker_id: str) -> None:
        self.fenced.append(worker_id)

    def launched(self) -> list[str]:
        return [order.task_id for order in self.orders if isinstance(order, LaunchContainer)]

    def stopped(self) -> list[str]:
        return [order.task_id for order in self.orders if isinstance(order, StopContainer)]


class _NoVolumes:
    def task_ended(self, task_id: str) -> None: ...


@dataclass
class House:
    """A scheduler on a store, which may be replaced as after a kill."""

    path: Path
    connections: Connections = field(default_factory=Connections)

    def open(self) -> None:
        self.stores: Stores = open_stores(self.path)
        bells = Bells()
        profiles = Profiles(self.stores.profiles, LocalObjects(self.path.parent, self.path.parent), _no_index)
        self.scheduler = Scheduler(self.stores, self.connections, self._prepare, bells)
        self.events = WorkerEvents(
            self.stores,
            self.scheduler,
            bells,
            profiles,
            Steps(self.scheduler),
            _ignore,
            _nothing,
            _nothing,
            cast(VolumeMounts, _NoVolumes()),
            Execs(cast(Channels, None)),
        )

    async def close(self) -> None:
        await self.scheduler.close()
        self.stores.close()

    async def replace(self) -> None:
        """Another server takes over; what the last one knew only in memory is lost."""
        await self.close()
        self.connections = Connections()
        self.open()
        await restore(self.scheduler, self.stores)

    async def join(self, *containers: str, room: Room = ROOM) -> None:
        await self.events.worker_connected(hello(*containers), room)

    async def _prepare(self, function: KnownFunction, task_id: str) -> LaunchContainer:
        return LaunchContainer(task_id, (), ())

    async def define(self, **fields: object) -> None:
        await self.stores.apps.add("ap-1", "test", api_pb2.APP_STATE_EPHEMERAL)
        function = api_pb2.Function(function_name="f", **fields)  # type: ignore[arg-type]
        stored = StoredFunction("fu-1", "ap-1", "f", b"", function.SerializeToString())
        await self.stores.functions.add(stored)

    async def call(self, inputs: int, call_id: str = "fc-1") -> list[str]:
        body = api_pb2.FunctionInput(args=b"x").SerializeToString()
        call = Call(call_id, "fu-1", "ap-1", 4, None)
        identifiers = await self.stores.calls.add(call, [(number, body) for number in range(inputs)])
        await self.scheduler.add_demand("fu-1", inputs)
        return identifiers

    async def launched(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self.connections.launched()) < count:
                await asyncio.sleep(0.002)
        return self.connections.launched()

    async def results(self, call_id: str = "fc-1") -> list[api_pb2.GenericResult]:
        outputs = await self.stores.calls.outputs_after(call_id, 0, 1000)
        return [api_pb2.FunctionGetOutputsItem.FromString(output.body).result for output in outputs]

    async def exit(self, task_id: str, reason: ExitReason, code: int = 0) -> None:
        self.scheduler.container_exited(ContainerExited(task_id, code, reason, "", time.time()))

    async def until(self, holds: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(8):
            while not await holds():
                await asyncio.sleep(0.005)

    async def has_results(self, count: int = 1) -> bool:
        return len(await self.results()) == count


def _no_index(digest: str) -> Index:
    raise AssertionError("nothing is launched for real")


def _ignore(event: Event) -> None:
    pass


async def _nothing(subject: object) -> None: ...


def hello(*containers: str) -> WorkerConnected:
    return WorkerConnected("wo-1", containers, 2000, 2**30, 9901, PROTOCOL)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    opened = House(tmp_path / "jiffy.db")
    opened.open()
    await opened.join()
    yield opened
    await opened.close()


async def test_an_input_launches_a_container_which_is_given_it(house: House) -> None:
    await house.define()
    (input_id,) = await house.call(1)
    (task_id,) = await house.launched(1)
    inputs = await house.scheduler.take_inputs(task_id, 1, "k")
    assert inputs is not None and [entry.input_id for entry in inputs] == [input_id]


async def test_a_waiting_container_is_given_a_new_input_at_once(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    (first,) = await house.scheduler.take_inputs(task_id, 1, "k") or []
    await house.scheduler.record_outputs(task_id, [Result(first.input_id, 0, b"")], 0.001)
    waiting = asyncio.ensure_future(house.scheduler.take_inputs(task_id, 1, "k2"))
    await asyncio.sleep(0.05)
    await house.call(1, "fc-2")
    assert await asyncio.wait_for(waiting, 2)
    assert len(house.connections.launched()) == 1


async def test_a_container_that_waits_longer_than_the_window_is_let_go(house: House) -> None:
    await house.define(autoscaler_settings=api_pb2.AutoscalerSettings(scaledown_window=1))
    await house.call(1)
    (task_id,) = await house.launched(1)
    (entry,) = await house.scheduler.take_inputs(task_id, 1, "k") or []
    await house.scheduler.record_outputs(task_id, [Result(entry.input_id, 0, b"")], 0.001)
    assert await asyncio.wait_for(house.scheduler.take_inputs(task_id, 1, "k2"), 5) is None


async def test_why_nothing_is_launched_is_said_once_in_the_apps_log(house: House) -> None:
    await house.define(resources=api_pb2.Resources(memory_mb=5000))
    await house.call(2)
    await house.call(1, "fc-2")
    await house.until(lambda: house.stores.logs.after("ap-1", 0))
    lines = await house.stores.logs.after("ap-1", 0)
    assert [line.text for line in lines] == [
        "jiffy: f waits: every worker is full: it takes 0.125 CPU and 5000 MiB of memory\n"
    ]


async def test_what_can_never_run_fails_with_the_reason(house: House) -> None:
    await house.define(resources=api_pb2.Resources(milli_cpu=99_000))
    await house.call(1)
    await house.until(house.has_results)
    (result,) = await house.results()
    assert "no worker has 99 CPU" in result.exception


async def test_the_input_of_a_lost_container_runs_again_in_another(house: House) -> None:
    await house.define()
    await house.call(1)
    (first,) = await house.launched(1)
    await house.scheduler.take_inputs(first, 1, "k")
    await house.exit(first, ExitReason.LOST)
    _, second = await house.launched(2)
    (entry,) = await house.scheduler.take_inputs(second, 1, "k") or []
    assert entry.losses == 1


async def test_the_input_of_a_lost_container_goes_to_one_that_waits(house: House) -> None:
    await house.define()
    await house.call(2)
    first, second = await house.launched(2)
    await house.scheduler.take_inputs(first, 1, "k")
    (other,) = await house.scheduler.take_inputs(second, 1, "k") or []
    await house.scheduler.record_outputs(second, [Result(other.input_id, 0, b"")], 9.0)
    waiting = asyncio.ensure_future(house.scheduler.take_inputs(second, 1, "k2"))
    await asyncio.sleep(0.05)
    await house.exit(first, ExitReason.LOST)
    (entry,) = await asyncio.wait_for(waiting, 2) or []
    assert entry.losses == 1


async def test_an_input_that_kills_every_container_is_given_up(house: House) -> None:
    await house.define()
    await house.call(1)
    for number in range(1, 4):
        task_id = (await house.launched(number))[-1]
        await house.scheduler.take_inputs(task_id, 1, "k")
        await house.exit(task_id, ExitReason.LOST)
    await house.until(house.has_results)
    (result,) = await house.results()
    assert "3 containers in a row" in result.exception


async def test_a_process_that_exits_fails_the_input_that_it_ran(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.scheduler.take_inputs(task_id, 1, "k")
    await house.exit(task_id, ExitReason.FINISHED, 3)
    await house.until(house.has_results)
    (result,) = await house.results()
    assert "exited with code 3" in result.exception


async def test_a_function_that_never_starts_fails_what_waits_after_three_tries(house: House) -> None:
    await house.define()
    await house.call(1)
    for number in range(1, 4):
        await house.exit((await house.launched(number))[-1], ExitReason.FINISHED, 1)
    await house.until(house.has_results)
    (result,) = await house.results()
    assert "3 times in a row" in result.exception


async def test_an_input_that_reaches_its_timeout_fails_and_its_container_is_stopped(house: House) -> None:
    await house.define(timeout_secs=1)
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.scheduler.take_inputs(task_id, 1, "k")
    await house.until(house.has_results)
    (result,) = await house.results()
    assert result.status == STATUS.GENERIC_STATUS_TIMEOUT
    assert house.connections.stopped() == [task_id]


async def test_after_a_restart_a_container_goes_on_with_its_input(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    (entry,) = await house.scheduler.take_inputs(task_id, 1, "k") or []
    await house.replace()
    await house.join(task_id)
    await house.scheduler.record_outputs(task_id, [Result(entry.input_id, 0, b"")], 0.001)
    assert await house.stores.calls.count_unfinished("fc-1") == 0
    assert house.connections.launched() == []


async def test_a_server_that_died_while_it_stopped_an_app_leaves_that_to_the_next(house: House) -> None:
    """Killed after the stop was recorded, before inputs were terminated and containers told."""
    await house.define()
    await house.call(2)
    both = await house.launched(2)
    await house.scheduler.take_inputs(both[0], 1, "k")
    await house.stores.apps.set_state("ap-1", api_pb2.APP_STATE_STOPPED, stopped=True)
    await house.replace()
    assert {result.status for result in await house.results()} == {STATUS.GENERIC_STATUS_TERMINATED}
    assert len(await house.results()) == 2
    for task_id in both:
        is_told_next = await house.scheduler.take_inputs(task_id, 1, "next") is None
        assert task_id in house.connections.stopped() or is_told_next


async def test_inputs_that_come_after_the_stop_of_their_app_are_terminated(house: House) -> None:
    await house.define()
    await house.call(0)
    await house.stores.apps.set_state("ap-1", api_pb2.APP_STATE_STOPPED, stopped=True)
    await house.stores.calls.add_inputs("fc-1", [(0, b"")])
    await house.scheduler.add_demand("fu-1", 1)
    await house.until(house.has_results)
    (result,) = await house.results()
    assert result.status == STATUS.GENERIC_STATUS_TERMINATED
    assert house.connections.launched() == []


async def test_a_container_that_its_worker_does_not_know_is_lost(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.join()
    assert house.scheduler.peek_container(task_id) is not None, "the order may still be on its way"
    await house.replace()
    await house.join()
    assert house.scheduler.peek_container(task_id) is None
    assert len(await house.launched(1)) == 1


async def test_a_container_that_was_given_up_is_stopped_when_its_worker_comes_back(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.scheduler.take_inputs(task_id, 1, "k")
    house.events.worker_disconnected("wo-1", for_good=True)
    assert house.connections.fenced == ["wo-1"]
    await house.join(task_id)
    await house.until(lambda: _true(task_id in house.connections.stopped()))


async def test_an_exit_that_the_last_server_recorded_but_did_not_act_on_is_acted_on(house: House) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.scheduler.take_inputs(task_id, 1, "k")
    event = (1, ContainerExited(task_id, 1, ExitReason.FINISHED, "", time.time()))
    await house.stores.tasks.apply("wo-1", [event])
    await house.replace()
    await house.events.events_arrived("wo-1", [event])
    await house.until(house.has_results)
    (result,) = await house.results()
    assert "exited with code 1" in result.exception


async def test_a_result_of_a_container_that_was_given_up_is_refused(house: House) -> None:
    await house.define()
    await house.call(1)
    (first,) = await house.launched(1)
    (entry,) = await house.scheduler.take_inputs(first, 1, "k") or []
    await house.exit(first, ExitReason.LOST)
    second = (await house.launched(2))[-1]
    await house.scheduler.take_inputs(second, 1, "k")
    await house.scheduler.record_outputs(first, [Result(entry.input_id, 0, b"late")], 1.0)
    assert await house.results() == []


async def test_a_store_that_fails_for_a_while_loses_no_decision(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    await house.scheduler.take_inputs(task_id, 1, "k")
    settle, failures = house.stores.calls.settle, iter([True])

    async def fail_once(*given: Any) -> Settled:
        if next(failures, False):
            raise ExhaustedError("the disk is full")
        return await settle(*given)

    monkeypatch.setattr(Calls, "settle", staticmethod(fail_once))
    await house.exit(task_id, ExitReason.LOST)
    await house.launched(2)


async def test_a_store_that_fails_while_a_container_is_launched_is_not_the_functions_failure(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, failures = house.stores.tasks.add, iter([True])

    async def fail_once(*given: Any) -> None:
        if next(failures, False):
            raise UnavailableError("the store does not answer")
        await add(*given)

    monkeypatch.setattr(Tasks, "add", staticmethod(fail_once))
    await house.define()
    await house.call(1)
    (task_id,) = await house.launched(1)
    assert await house.scheduler.take_inputs(task_id, 1, "k")


async def _true(value: object) -> object:
    return value
