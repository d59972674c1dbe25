"""What the function platform keeps, on both engines: apps and their versions, definitions, schedules, endpoints, named
objects and what is in them, retries, and what is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from jiffy.core.attempts import Backoff
from jiffy.errors import ConflictError, ExhaustedError, InvalidError, NotFoundError
from jiffy.store.apps import Version
from jiffy.store.calls import WEB_CALL, Call, Result
from jiffy.store.endpoints import Endpoint
from jiffy.store.functions import StoredDefinition, StoredFunction
from jiffy.store.named_objects import NamedObject
from jiffy.store.schedules import Firing
from jiffy.store.stores import Stores

SOON = Backoff(retries=2, initial=0.2, coefficient=2.0, longest=60.0)
NEVER_BEATS = None


async def add_app(stores: Stores, app_id: str = "ap-1", name: str = "") -> None:
    await stores.apps.add(app_id, "a test", 1)
    if name:
        await stores.apps.name(app_id, name)


async def add_function(stores: Stores, function_id: str = "fu-1", app_id: str = "ap-1") -> None:
    await stores.functions.add(StoredFunction(function_id, app_id, "f", b"", b""))


def version(app_id: str, request_id: str, tag: str = "") -> Version:
    return Version(
        app_id, 0, time.time(), "ak-1", "1.6.4", tag, b"", {"f": "fu-1"}, {}, {"fu-1": "de-1"}, 0, request_id
    )


async def test_one_live_app_has_a_name(stores: Stores) -> None:
    await add_app(stores, "ap-1", "service")
    await stores.apps.add("ap-2", "another", 1)
    with pytest.raises(ConflictError, match="another app is deployed as service"):
        await stores.apps.name("ap-2", "service")
    found = await stores.apps.find("main", "service")
    assert found is not None and found.app_id == "ap-1"
    await stores.apps.set_state("ap-1", 5, stopped=True)
    await stores.apps.name("ap-2", "service")
    found = await stores.apps.find("main", "service")
    assert found is not None and found.app_id == "ap-2"


async def test_versions_are_numbered_and_a_repeated_request_makes_none(stores: Stores) -> None:
    await add_app(stores, "ap-1", "service")
    assert (await stores.apps.deploy(version("ap-1", "rq-1", "first"), 3)).version == 1
    assert (await stores.apps.deploy(version("ap-1", "rq-2"), 3)).version == 2
    assert (await stores.apps.deploy(version("ap-1", "rq-1"), 3)).version == 1
    assert [(each.version, each.tag) for each in await stores.apps.versions("ap-1")] == [(2, ""), (1, "first")]
    await stores.apps.set_state("ap-1", 5, stopped=True)
    with pytest.raises(ConflictError, match="was stopped meanwhile"):
        await stores.apps.deploy(version("ap-1", "rq-3"), 3)


async def test_a_function_follows_its_first_definition_until_it_is_told_to_follow_another(stores: Stores) -> None:
    await add_app(stores)
    function = StoredFunction("fu-1", "ap-1", "f", b"", None)
    assert await stores.functions.define(function, StoredDefinition("de-1", "fu-1", b"h1", b"one"))
    assert not await stores.functions.define(function, StoredDefinition("de-2", "fu-1", b"h2", b"two"))
    assert (await stores.functions.get("fu-1")).definition == b"one"
    await stores.functions.scale("fu-1", {"min_containers": 2})
    assert (await stores.functions.get("fu-1")).scaling == {"min_containers": 2}
    assert not await stores.functions.follow("de-1")
    assert (await stores.functions.get("fu-1")).scaling == {}
    assert await stores.functions.follow("de-2")
    followed = await stores.functions.get("fu-1")
    assert (followed.definition, followed.handle, followed.scaling) == (b"two", b"h2", {})
    assert (await stores.functions.definition("de-1")).definition == b"one"


async def test_an_input_that_failed_waits_for_its_next_try(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    (input_id,) = await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 3, None), [(0, b"")])
    for attempt in range(2):
        (entry,) = await stores.calls.claim("fu-1", f"ta-{attempt}", 1, "k")
        assert entry.retry_count == attempt
        assert await stores.calls.finish(f"ta-{attempt}", [Result(input_id, attempt, b"failed", SOON)]) == []
        counted = await stores.calls.demand("fu-1", 10)
        assert counted.waiting == 0 and counted.next_at is not None and counted.next_at > time.time()
        assert await stores.calls.claim("fu-1", "ta-early", 1, "k") == []
        await asyncio.sleep(0.21 * 2**attempt)
        assert (await stores.calls.demand("fu-1", 10)).waiting == 1
    await stores.calls.claim("fu-1", "ta-2", 1, "k")
    assert await stores.calls.finish("ta-2", [Result(input_id, 2, b"failed", SOON)]) == ["fc-1"]


async def test_who_waits_for_a_call_tries_again_itself(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    (input_id,) = await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(0, b"")])
    await stores.calls.claim("fu-1", "ta-1", 1, "k")
    assert await stores.calls.finish("ta-1", [Result(input_id, 0, b"failed", SOON)]) == ["fc-1"]


async def test_a_batch_is_added_to_under_the_same_key(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(number, b"") for number in range(3)])
    assert len(await stores.calls.claim("fu-1", "ta-1", 1, "k")) == 1
    assert [entry.number for entry in await stores.calls.claim("fu-1", "ta-1", 2, "k", besides=True)] == [1, 2]
    assert [entry.number for entry in await stores.calls.claimed_under("ta-1", "k")] == [0, 1, 2]


async def test_old_calls_are_forgotten_when_they_are_done(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    for name in ("fc-done", "fc-open"):
        await stores.calls.add(Call(name, "fu-1", "ap-1", 4, None), [(0, b"")])
    await stores.call_chunks.add("fc-done", [(1, b"a"), (2, b"b")])
    assert await stores.call_chunks.after("fc-done", 1, 10) == [(2, b"b")]
    (entry,) = await stores.calls.claim("fu-1", "ta-1", 1, "k")
    await stores.calls.finish("ta-1", [Result(entry.input_id, 0, b"done")])
    assert await stores.call_history.forget_before(time.time() - 60, 10) == 0
    assert await stores.call_history.forget_before(time.time() + 1, 10) == 1
    with pytest.raises(NotFoundError):
        await stores.calls.get("fc-done")
    assert await stores.call_chunks.after("fc-done", 0, 10) == []
    assert (await stores.calls.get("fc-open")).call_id == "fc-open"


async def test_calls_know_which_input_made_them(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    (input_id,) = await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 4, None), [(0, b"")])
    await stores.calls.add(Call("fc-2", "fu-1", "ap-1", 4, None, parent_input_id=input_id), [(0, b"")])
    assert [call.call_id for call in await stores.call_history.children(input_id)] == ["fc-2"]
    assert len(await stores.call_history.of_function("fu-1", 0, time.time() + 1, 10)) == 2


async def test_web_requests_of_a_dead_server_are_given_up(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    await stores.calls.add(Call("fc-web", "fu-1", "ap-1", WEB_CALL, None), [(0, b"")])
    await stores.calls.add(Call("fc-plain", "fu-1", "ap-1", 4, None), [(0, b"")])
    await stores.calls.cancel_web_calls()
    assert [entry.call_id for entry in await stores.calls.abandoned()] == ["fc-web"]


async def test_a_firing_moves_once(stores: Stores) -> None:
    await add_app(stores)
    await add_function(stores)
    firing = Firing("fu-1", "ap-1", b"schedule", 100.0)
    await stores.schedules.replace("ap-1", [firing])
    assert await stores.schedules.first() == 100.0
    assert await stores.schedules.due(101.0) == [firing]
    await stores.schedules.move(firing, 200.0)
    await stores.schedules.move(firing, 300.0)
    assert await stores.schedules.first() == 200.0
    await stores.apps.set_state("ap-1", 5, stopped=True)
    assert await stores.schedules.due(1000.0) == []
    assert await stores.schedules.first() is None


async def test_the_newest_app_has_an_endpoint(stores: Stores) -> None:
    for app_id, function_id in (("ap-1", "fu-1"), ("ap-2", "fu-2")):
        await add_app(stores, app_id)
        await add_function(stores, function_id, app_id)
    assert await stores.endpoints.put([Endpoint("site", "fu-1", "ap-1", "", False)]) == []
    assert await stores.endpoints.put([Endpoint("site", "fu-2", "ap-2", "page", True)]) == ["site"]
    assert await stores.endpoints.find("site") == Endpoint("site", "fu-2", "ap-2", "page", True)
    await stores.apps.set_state("ap-2", 5, stopped=True)
    assert await stores.endpoints.find("site") is None


async def add_object(
    stores: Stores, object_id: str, kind: str, name: str = "", beat_at: float | None = None
) -> NamedObject:
    return await stores.named_objects.add(NamedObject(object_id, kind, "main", name, "", 0.0, beat_at))


async def test_a_name_leads_to_one_object_of_a_kind(stores: Stores) -> None:
    assert (await add_object(stores, "di-1", "dict", "shared")).object_id == "di-1"
    assert (await add_object(stores, "di-2", "dict", "shared")).object_id == "di-1"
    assert (await add_object(stores, "qu-1", "queue", "shared")).object_id == "qu-1"
    await add_object(stores, "di-3", "dict", "other")
    with pytest.raises(ConflictError):
        await stores.named_objects.rename("di-3", "shared")
    await stores.named_objects.rename("di-3", "third")
    assert [each.name for each in await stores.named_objects.named("dict", "main", float("inf"), 10)] == [
        "third",
        "shared",
    ]
    await stores.named_objects.delete(["di-1"])
    assert await stores.named_objects.find("dict", "main", "shared") is None


async def test_objects_whose_client_is_silent_are_told(stores: Stores) -> None:
    await add_object(stores, "di-1", "dict", beat_at=100.0)
    await add_object(stores, "di-2", "dict", beat_at=100.0)
    await add_object(stores, "di-3", "dict", "named", NEVER_BEATS)
    await stores.named_objects.beat("di-2")
    assert [each.object_id for each in await stores.named_objects.silent(time.time() - 60)] == ["di-1"]


async def test_entries_of_a_dict(stores: Stores) -> None:
    await add_object(stores, "di-1", "dict", "d")
    assert await stores.dicts.update("di-1", [(b"a", b"1"), (b"b", b"2")], only_new=False)
    assert not await stores.dicts.update("di-1", [(b"a", b"9")], only_new=True)
    assert await stores.dicts.update("di-1", [(b"a", b"3")], only_new=False)
    assert [each async for each in stores.dicts.contents("di-1")] == [(b"a", b"3"), (b"b", b"2")]
    assert await stores.dicts.get("di-1", b"a") == b"3" and await stores.dicts.get("di-1", b"x") is None
    assert await stores.dicts.pop("di-1", b"a") == b"3" and await stores.dicts.pop("di-1", b"a") is None
    assert await stores.dicts.size("di-1") == 1 and await stores.dicts.contains("di-1", b"b")
    await stores.dicts.drop_unused(time.time() + 1)
    assert await stores.dicts.size("di-1") == 0


async def test_items_of_a_queue_are_taken_once_and_in_order(stores: Stores) -> None:
    await add_object(stores, "qu-1", "queue", "q")
    values = [str(number).encode() for number in range(50)]
    await stores.queue_items.put("qu-1", b"", values, 60.0, 5000)
    taken = await asyncio.gather(*(stores.queue_items.take("qu-1", b"", 3) for _ in range(20)))
    assert sorted(value for some in taken for value in some) == sorted(values)
    assert await stores.queue_items.take("qu-1", b"", 3) == []


async def test_partitions_of_a_queue_are_full_and_end_each_by_itself(stores: Stores) -> None:
    await add_object(stores, "qu-1", "queue", "q")
    await stores.queue_items.put("qu-1", b"a", [b"1", b"2"], 60.0, 3)
    with pytest.raises(ExhaustedError, match="the queue is full"):
        await stores.queue_items.put("qu-1", b"a", [b"3", b"4"], 60.0, 3)
    await stores.queue_items.put("qu-1", b"b", [b"5"], 0.01, 3)
    await asyncio.sleep(0.02)
    assert await stores.queue_items.size("qu-1", None) == 2
    assert await stores.queue_items.count_partitions("qu-1") == 1
    first, second = await stores.queue_items.after("qu-1", b"a", 0, 10)
    assert (first.value, second.value) == (b"1", b"2")
    assert await stores.queue_items.after("qu-1", b"a", first.position, 10) == [second]
    await stores.queue_items.drop_expired()
    await stores.queue_items.clear("qu-1", b"a")
    assert await stores.queue_items.size("qu-1", None) == 0


async def test_a_volume_has_the_head_of_who_knew_the_last_one(stores: Stores) -> None:
    await add_object(stores, "vo-1", "volume", "v")
    await stores.volumes.add("vo-1", 2, "aa")
    assert await stores.volumes.commit("vo-1", "aa", "bb")
    assert not await stores.volumes.commit("vo-1", "aa", "cc")
    volume = await stores.volumes.get("vo-1")
    assert (volume.head, volume.fs_version) == ("bb", 2)
    await stores.named_objects.delete(["vo-1"])
    with pytest.raises(NotFoundError):
        await stores.volumes.get("vo-1")


async def test_an_environment_in_use_stays(stores: Stores) -> None:
    await stores.environments.add("staging", "staging")
    with pytest.raises(ConflictError):
        await stores.environments.add("staging", "")
    await stores.apps.add("ap-1", "a test", 1, "staging")
    with pytest.raises(InvalidError, match="an app runs in it"):
        await stores.environments.delete("staging")
    await stores.apps.set_state("ap-1", 5, stopped=True)
    await stores.environments.delete("staging")
    assert [each.name for each in await stores.environments.all()] == ["main"]
