import pytest

from jiffy.core.events import ContainerExited, ContainerStarted, ExitReason, LogWritten
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores

STARTED = ContainerStarted("ta-1", "172.21.0.2", started_at=10.0, phases={"mount": 0.004})
LINE = LogWritten("ta-1", 1, "hello\n", 11.0)
EXITED = ContainerExited("ta-1", 0, ExitReason.FINISHED, "", 12.0)


@pytest.fixture(autouse=True)
async def one_task(stores: Stores) -> None:
    await stores.apps.add("ap-1", "a test", 1)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", b""))
    await stores.tasks.add("ta-1", "fu-1", "ap-1", "wo-1")


async def test_an_event_that_arrives_twice_is_applied_once(stores: Stores) -> None:
    assert await stores.tasks.apply("wo-1", [(1, STARTED), (2, LINE)]) == [STARTED, LINE]
    assert await stores.tasks.apply("wo-1", [(2, LINE), (3, LINE)]) == [LINE]
    assert [line.text for line in await stores.logs.after("ap-1", 0)] == ["hello\n", "hello\n"]


async def test_a_start_is_remembered_with_its_phases(stores: Stores) -> None:
    await stores.tasks.apply("wo-1", [(1, STARTED)])
    task = await stores.tasks.get("ta-1")
    assert (task.address, task.started_at, task.phases) == ("172.21.0.2", 10.0, {"mount": 0.004})


async def test_another_worker_has_a_sequence_of_its_own(stores: Stores) -> None:
    await stores.tasks.apply("wo-1", [(7, LINE)])
    assert await stores.tasks.apply("wo-2", [(1, EXITED)]) == [EXITED]


async def test_a_task_ends_once(stores: Stores) -> None:
    assert await stores.tasks.end("ta-1", "finished", 12.0)
    assert not await stores.tasks.end("ta-1", "lost", 13.0)
    assert (await stores.tasks.get("ta-1")).reason == "finished"
    assert await stores.tasks.live() == []


async def test_a_moment_is_noted_when_it_is_first_reached(stores: Stores) -> None:
    await stores.tasks.mark("ta-1", "hello_at")
    first = (await stores.tasks.get("ta-1")).hello_at
    await stores.tasks.mark("ta-1", "hello_at")
    assert (await stores.tasks.get("ta-1")).hello_at == first
