"""Inputs are found by their function, with or without its variants, and by their time; variants by what they are of."""

from __future__ import annotations

import asyncio
import time

from jiffy.store.calls import Call, Result
from jiffy.store.functions import StoredFunction
from jiffy.store.input_history import Scope
from jiffy.store.stores import Stores


async def add_function(stores: Stores, function_id: str, base_id: str = "") -> None:
    parameters = b"" if base_id else None
    await stores.functions.add(
        StoredFunction(function_id, "ap-1", "f", b"", b"", base_id=base_id, parameters=parameters)
    )


async def add_inputs(stores: Stores, call_id: str, function_id: str, count: int) -> list[str]:
    inputs = [(number, b"") for number in range(count)]
    return await stores.calls.add(Call(call_id, function_id, "ap-1", 0, None), inputs)


async def fill(stores: Stores) -> None:
    await stores.apps.add("ap-1", "a test", 1)
    await add_function(stores, "fu-1")
    await add_function(stores, "fu-2", base_id="fu-1")
    await add_function(stores, "fu-3")


async def test_the_last_inputs_are_those_of_a_function_or_of_its_variants_too(stores: Stores) -> None:
    await fill(stores)
    await add_inputs(stores, "fc-1", "fu-1", 3)
    await add_inputs(stores, "fc-2", "fu-2", 2)
    await add_inputs(stores, "fc-3", "fu-3", 1)
    alone = await stores.input_history.last(Scope("fu-1", False), 10)
    together = await stores.input_history.last(Scope("fu-1", True), 10)
    assert len(alone) == 3 and len(together) == 5
    assert together == sorted(together, reverse=True) and set(alone) < set(together)
    assert await stores.input_history.last(Scope("fu-1", True), 2) == together[:2]


async def test_inputs_of_a_time_are_counted_and_come_in_order(stores: Stores) -> None:
    await fill(stores)
    before = time.time()
    await add_inputs(stores, "fc-1", "fu-1", 2)
    await asyncio.sleep(0.01)
    between = time.time()
    await asyncio.sleep(0.01)
    await stores.calls.add_inputs("fc-1", [(2, b""), (3, b"")])
    history, scope = stores.input_history, Scope("fu-1", False)
    later = await history.between(scope, between, time.time() + 1, 10)
    assert len(later) == 2 and later == sorted(later)
    assert len(await history.between(scope, before, time.time() + 1, 3)) == 3
    counts = await history.count(scope, before, time.time() + 1, 3600)
    assert sum(counts.values()) == 4 and all(start % 3600 == 0 for start in counts)
    assert await history.count(scope, before - 100, before, 3600) == {}


async def test_an_input_is_told_with_its_container_and_its_output(stores: Stores) -> None:
    await fill(stores)
    first, _ = await add_inputs(stores, "fc-1", "fu-1", 2)
    await stores.tasks.add("ta-1", "fu-1", "ap-1", "wo-1")
    await stores.tasks.mark("ta-1", "ready_at")
    await stores.calls.claim("fu-1", "ta-1", 1, "key")
    await stores.calls.finish("ta-1", [Result(first, 0, b"done")])
    positions = await stores.input_history.last(Scope("fu-1", False), 10)
    waiting, ended = sorted(await stores.input_history.get(positions), key=lambda each: each.task_id or "")
    assert (waiting.output, waiting.claimed_at, waiting.asked_at) == (None, None, None)
    assert (ended.task_id, ended.output) == ("ta-1", b"done")
    assert ended.asked_at and ended.ready_at and ended.asked_at <= ended.ready_at <= (ended.claimed_at or 0)


async def test_variants_come_by_their_age_or_by_their_containers(stores: Stores) -> None:
    await fill(stores)
    await add_function(stores, "fu-4", base_id="fu-1")
    await add_function(stores, "fu-5", base_id="fu-1")
    pinned = StoredFunction("fu-6", "ap-1", "f", b"", b"", base_id="fu-1")
    await stores.functions.add(pinned)
    await stores.tasks.add("ta-1", "fu-4", "ap-1", "wo-1")
    newest = await stores.functions.variants("fu-1", (1e12, ""), 2)
    assert [each.function_id for each in newest] == ["fu-5", "fu-4"]
    last = newest[-1]
    older = await stores.functions.variants("fu-1", (last.created_at, last.function_id), 2)
    assert [each.function_id for each in older] == ["fu-2"]
    busiest = await stores.functions.busiest_variants("fu-1", 10)
    assert [each.function_id for each in busiest] == ["fu-4", "fu-5", "fu-2"]
    assert await stores.functions.variants("", (1e12, ""), 10) == []
