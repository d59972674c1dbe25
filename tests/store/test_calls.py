import pytest

from jiffy.errors import ConflictError, NotFoundError
from jiffy.store.calls import Call, Calls, Result
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import Stores

CALL = Call("fc-1", "fu-1", "ap-1", 4, None)


@pytest.fixture
async def calls(stores: Stores) -> Calls:
    await stores.apps.add("ap-1", "a test", 1)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", b""))
    return stores.calls


async def test_an_input_goes_from_pending_to_claimed_to_one_output(calls: Calls) -> None:
    (input_id,) = await calls.add(CALL, [(0, b"question")])
    (claimed,) = await calls.claim("fu-1", "ta-1", 1, "key")
    assert (claimed.input_id, claimed.body) == (input_id, b"question")
    assert await calls.finish("ta-1", [Result(input_id, 0, b"answer")]) == ["fc-1"]
    (output,) = await calls.outputs_after("fc-1", 0, 10)
    assert (output.number, output.body) == (0, b"answer")
    assert await calls.count_unfinished("fc-1") == 0


async def test_a_repeated_call_has_the_same_inputs_once(calls: Calls) -> None:
    first = await calls.add(CALL, [(0, b"a"), (1, b"b")])
    assert await calls.add(CALL, [(0, b"a"), (1, b"b")]) == first
    assert (await calls.demand("fu-1", 100)).waiting == 2


async def test_a_call_of_an_app_that_was_stopped_is_refused(calls: Calls, stores: Stores) -> None:
    await stores.apps.set_state("ap-1", 0, stopped=True)
    with pytest.raises(ConflictError, match="its app was stopped"):
        await calls.add(CALL, [(0, b"")])
    assert not (await calls.demand("fu-1", 100)).waiting
    assert (await calls.demand("fu-1", 100)).is_stopped


async def test_inputs_are_claimed_oldest_first_and_only_once(calls: Calls) -> None:
    await calls.add(CALL, [(number, b"") for number in range(5)])
    first = await calls.claim("fu-1", "ta-1", 2, "a")
    second = await calls.claim("fu-1", "ta-2", 10, "b")
    assert [entry.number for entry in first] == [0, 1]
    assert [entry.number for entry in second] == [2, 3, 4]


async def test_a_claim_repeated_with_its_key_gives_the_same_inputs(calls: Calls) -> None:
    await calls.add(CALL, [(number, b"") for number in range(3)])
    first = await calls.claim("fu-1", "ta-1", 1, "key")
    assert await calls.claim("fu-1", "ta-1", 1, "key") == first
    assert await calls.claim("fu-1", "ta-1", 1, "next key") != first


async def test_the_result_of_a_container_that_lost_its_input_is_refused(calls: Calls) -> None:
    (input_id,) = await calls.add(CALL, [(0, b"")])
    await calls.claim("fu-1", "ta-1", 1, "a")
    settled = await calls.settle("ta-1", "lost", lambda entry: None)
    assert settled.requeued == {"fu-1": 1}
    (claimed,) = await calls.claim("fu-1", "ta-2", 1, "b")
    assert claimed.losses == 1
    assert await calls.finish("ta-1", [Result(input_id, 0, b"late")]) == []
    assert await calls.finish("ta-2", [Result(input_id, 0, b"right")]) == ["fc-1"]
    assert await calls.finish("ta-2", [Result(input_id, 0, b"again")]) == []
    assert [output.body for output in await calls.outputs_after("fc-1", 0, 10)] == [b"right"]


async def test_a_retry_makes_the_input_pending_and_takes_its_output_back(calls: Calls) -> None:
    (input_id,) = await calls.add(CALL, [(0, b"")])
    await calls.claim("fu-1", "ta-1", 1, "a")
    await calls.finish("ta-1", [Result(input_id, 0, b"failed")])
    assert await calls.retry(input_id, b"again", None) == "fu-1"
    assert await calls.outputs_after("fc-1", 0, 10) == []
    (claimed,) = await calls.claim("fu-1", "ta-1", 1, "b")
    assert (claimed.retry_count, claimed.body) == (1, b"again")


async def test_a_retry_of_an_attempt_that_was_made_changes_nothing(calls: Calls) -> None:
    (input_id,) = await calls.add(CALL, [(0, b"")])
    assert await calls.retry(input_id, b"", None) is None
    await calls.claim("fu-1", "ta-1", 1, "a")
    await calls.finish("ta-1", [Result(input_id, 0, b"")])
    assert await calls.retry(input_id, b"", 1) == "fu-1"
    await calls.claim("fu-1", "ta-1", 1, "b")
    await calls.finish("ta-1", [Result(input_id, 1, b"")])
    assert await calls.retry(input_id, b"", 1) is None


async def test_the_server_may_record_a_result_only_for_what_nobody_holds(calls: Calls) -> None:
    first, second = await calls.add(CALL, [(0, b""), (1, b"")])
    await calls.claim("fu-1", "ta-1", 1, "a")
    recorded = await calls.fail_pending([Result(first, 0, b"no"), Result(second, 0, b"no")])
    assert recorded == ["fc-1"]
    assert [output.input_id for output in await calls.outputs_after("fc-1", 0, 10)] == [second]


async def test_a_reader_goes_on_from_where_it_was(calls: Calls) -> None:
    identifiers = await calls.add(CALL, [(number, b"") for number in range(4)])
    await calls.claim("fu-1", "ta-1", 4, "a")
    await calls.finish("ta-1", [Result(identifiers[2], 0, b"2")])
    (first,) = await calls.outputs_after("fc-1", 0, 10)
    await calls.finish("ta-1", [Result(identifiers[0], 0, b"0")])
    assert [output.body for output in await calls.outputs_after("fc-1", first.position, 10)] == [b"0"]
    assert [output.number for output in await calls.outputs_numbered("fc-1", 0, 1)] == [0]


async def test_an_unknown_call_is_not_found(calls: Calls) -> None:
    with pytest.raises(NotFoundError, match="fc-none"):
        await calls.add_inputs("fc-none", [(0, b"")])


async def test_a_task_that_has_ended_is_given_nothing(calls: Calls, stores: Stores) -> None:
    await calls.add(CALL, [(0, b"")])
    await stores.tasks.add("ta-1", "fu-1", "ap-1", "wo-1")
    await stores.tasks.end("ta-1", "lost", 0.0)
    assert await calls.claim("fu-1", "ta-1", 1, "a") == []


async def test_inputs_of_an_ended_task_can_be_claimed_again(calls: Calls, stores: Stores) -> None:
    await calls.add(CALL, [(0, b"")])
    await stores.tasks.add("ta-1", "fu-1", "ap-1", "wo-1")
    await calls.claim("fu-1", "ta-1", 1, "a")
    await calls.release_orphans()
    assert await calls.claim("fu-1", "ta-2", 1, "b") == []
    await stores.tasks.end("ta-1", "lost", 0.0)
    await calls.release_orphans()
    (claimed,) = await calls.claim("fu-1", "ta-2", 1, "b")
    assert claimed.losses == 1


async def test_what_was_cancelled_or_stopped_half_way_is_found(calls: Calls, stores: Stores) -> None:
    await calls.add(CALL, [(0, b"")])
    assert await calls.abandoned() == []
    await calls.cancel("fc-1")
    assert [entry.number for entry in await calls.abandoned()] == [0]
    await stores.apps.add("ap-2", "another", 1)
    await stores.functions.add(StoredFunction("fu-2", "ap-2", "g", b"", b""))
    await calls.add(Call("fc-2", "fu-2", "ap-2", 4, None), [(7, b"")])
    await stores.apps.set_state("ap-2", 0, stopped=True)
    assert {entry.number for entry in await calls.abandoned()} == {0, 7}


async def test_what_never_changes_of_a_call_is_remembered(calls: Calls) -> None:
    await calls.add(CALL, [(0, b"question")])
    await calls.cancel("fc-1")
    assert (await calls.recall("fc-1")).invocation_type == CALL.invocation_type
    assert (await calls.get("fc-1")).cancelled_at is not None
    with pytest.raises(NotFoundError, match="no call fc-2"):
        await calls.recall("fc-2")
