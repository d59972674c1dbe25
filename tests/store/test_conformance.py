"""Both engines do with calls what the model does, whatever comes in whatever order; and they do it for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from jiffy.store.calls import Call, Input, Result
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores, open_stores
from tests.store.model import Model

T = TypeVar("T")

CALLS = st.sampled_from(("first", "second"))
TASKS = st.sampled_from(("one", "two", "three"))
PLACES = st.tuples(CALLS, st.integers(0, 4))
_numbers = count()


class Engine(RuleBasedStateMachine):
    """A function of its own for each run: all share a database."""

    stores: Stores

    def __init__(self) -> None:
        super().__init__()
        self.run = next(_numbers)
        self.model = Model()
        self.loop = asyncio.new_event_loop()
        self.function_id = f"fu-{self.run}"
        self.ids: dict[tuple[str, int], str] = {}
        self.do(lambda: self.stores.apps.add("ap-1", "a test", 1))
        self.do(lambda: self.stores.functions.add(StoredFunction(self.function_id, "ap-1", "f", b"", b"")))
        for task in ("one", "two", "three"):
            self.do(lambda task=task: self.stores.tasks.add(self.task(task), self.function_id, "ap-1", "wo-1"))  # type: ignore[misc]

    def teardown(self) -> None:
        self.loop.close()

    def do(self, work: Callable[[], Awaitable[T]]) -> T:
        async def main() -> T:
            return await work()

        return self.loop.run_until_complete(main())

    def task(self, name: str) -> str:
        return f"ta-{self.run}-{name}"

    def call(self, name: str) -> str:
        return f"fc-{self.run}-{name}"

    def places(self, inputs: list[Input]) -> list[tuple[str, int]]:
        return [(entry.call_id.rpartition("-")[2], entry.number) for entry in inputs]

    @rule(name=CALLS, first=st.integers(0, 3), size=st.integers(0, 3))
    def add(self, name: str, first: int, size: int) -> None:
        numbers = range(first, min(5, first + size))
        call = Call(self.call(name), self.function_id, "ap-1", 4, None)
        identifiers = self.do(lambda: self.stores.calls.add(call, [(number, b"body") for number in numbers]))
        self.ids.update({(name, number): identifier for number, identifier in zip(numbers, identifiers, strict=True)})
        self.model.add(name, numbers)

    @rule(task=TASKS, limit=st.integers(1, 3), key=st.sampled_from("xyz"))
    def claim(self, task: str, limit: int, key: str) -> None:
        claimed = self.do(lambda: self.stores.calls.claim(self.function_id, self.task(task), limit, key))
        assert self.places(claimed) == self.model.claim(self.task(task), limit, key)
        for entry in claimed:
            expected = self.model.inputs[self.places([entry])[0]]
            assert (entry.retry_count, entry.losses) == (expected.retry_count, expected.losses)

    @rule(task=st.one_of(st.none(), TASKS), place=PLACES, retry_count=st.integers(0, 2))
    def finish(self, task: str | None, place: tuple[str, int], retry_count: int) -> None:
        if place not in self.ids:
            return
        result = Result(self.ids[place], retry_count, b"done")
        if task is None:
            calls = self.do(lambda: self.stores.calls.fail_pending([result]))
        else:
            calls = self.do(lambda: self.stores.calls.finish(self.task(task), [result]))
        holder = None if task is None else self.task(task)
        accepted = self.model.finish(holder, place, retry_count, b"done")
        assert calls == ([self.call(place[0])] if accepted else [])

    @rule(task=TASKS, failing=st.integers(0, 5))
    def settle(self, task: str, failing: int) -> None:
        def judge(entry: Input) -> Result | None:
            return Result(entry.input_id, entry.retry_count, b"failed") if entry.number == failing else None

        settled = self.do(lambda: self.stores.calls.settle(self.task(task), "a test", judge))
        assert sum(settled.requeued.values()) == self.model.settle(self.task(task), failing)

    @rule(place=PLACES, wanted=st.one_of(st.none(), st.integers(0, 3)))
    def retry(self, place: tuple[str, int], wanted: int | None) -> None:
        if place in self.ids:
            function_id = self.do(lambda: self.stores.calls.retry(self.ids[place], b"again", wanted))
            assert (function_id is not None) == self.model.retry(place, wanted)

    @invariant()
    def what_is_there_is_what_the_model_has(self) -> None:
        for name in ("first", "second"):
            outputs = self.do(lambda name=name: self.stores.calls.outputs_after(self.call(name), 0, 100))  # type: ignore[misc]
            assert {output.number: output.body for output in outputs} == self.model.outputs(name)
        counted = self.do(lambda: self.stores.calls.demand(self.function_id, 100))
        assert (counted.waiting, counted.running) == self.model.demand()


def test_calls_are_as_the_model_says(stores: Stores) -> None:
    machine: Any = type("OnThisEngine", (Engine,), {"stores": stores})
    limits = settings(max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=limits)


async def test_many_containers_that_claim_at_once_get_each_input_once(stores: Stores) -> None:
    await define(stores)
    await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(number, b"") for number in range(200)])
    claims = [stores.calls.claim("fu-1", f"ta-{number}", 3, "k") for number in range(80)]
    claimed = [entry.number for entries in await asyncio.gather(*claims) for entry in entries]
    assert sorted(claimed) == list(range(200))


async def test_a_reader_that_goes_on_from_the_last_output_misses_none(stores: Stores) -> None:
    """However commits interleave: positions within a call grow in the order in which they can be seen."""
    await define(stores)
    identifiers = await stores.calls.add(
        Call("fc-1", "fu-1", "ap-1", 4, None), [(number, b"") for number in range(300)]
    )
    await asyncio.gather(*(stores.calls.claim("fu-1", f"ta-{number}", 1, "k") for number in range(300)))
    holders = {entry.input_id: entry.task_id for entry in await stores.calls.unfinished_of_call("fc-1")}
    finishing = asyncio.gather(
        *(stores.calls.finish(holders[input_id] or "", [Result(input_id, 0, b"")]) for input_id in identifiers)
    )
    seen, position = 0, 0
    while seen < 300:
        outputs = await stores.calls.outputs_after("fc-1", position, 7)
        if outputs:
            position = outputs[-1].position
        elif finishing.done():
            assert await stores.calls.outputs_after("fc-1", position, 7) == []
            break
        seen += len(outputs)
    await finishing
    assert seen == 300


async def test_a_container_whose_end_is_being_recorded_takes_nothing_with_it(stores: Stores) -> None:
    """Claims and the end of the same container at once: nothing stays with the dead."""
    await define(stores)
    for number in range(30):
        await stores.tasks.add(f"ta-{number}", "fu-1", "ap-1", "wo-1")
    await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(number, b"") for number in range(90)])
    work: list[Awaitable[object]] = []
    for number in range(30):
        work.append(stores.calls.claim("fu-1", f"ta-{number}", 3, "k"))
        work.append(stores.calls.settle(f"ta-{number}", "lost", lambda entry: None))
    await asyncio.gather(*work)
    assert await stores.calls.demand("fu-1", 100) is not None
    counted = await stores.calls.demand("fu-1", 100)
    assert (counted.waiting, counted.running) == (90, 0)


async def test_a_second_server_finds_what_the_first_recorded(stores: Stores, address: str) -> None:
    await define(stores)
    second = open_stores(address)
    try:
        await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(0, b"")])
        (entry,) = await second.calls.claim("fu-1", "ta-1", 1, "k")
        assert await second.calls.finish("ta-1", [Result(entry.input_id, 0, b"answer")]) == ["fc-1"]
        assert len(await stores.calls.outputs_after("fc-1", 0, 10)) == 1
    finally:
        second.close()


async def define(stores: Stores) -> None:
    await stores.apps.add("ap-1", "a test", 1)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", b""))
