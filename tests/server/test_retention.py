import time

from jiffy.server.retention import Retention
from jiffy.store.stores import Stores


async def texts(stores: Stores, *owners: str) -> list[str]:
    return [line.text for owner in owners for line in await stores.logs.after(owner, 0, 10_000)]


async def test_lines_are_kept_as_long_as_was_asked_for(stores: Stores) -> None:
    now = time.time()
    await stores.logs.write_all("ap-old", 1, [(now - 3600, "an hour ago")])
    await stores.logs.write_all("ap-new", 1, [(now - 60, "a minute ago"), (now, "now")])
    await Retention(stores, log_seconds=600).run()
    assert await texts(stores, "ap-old", "ap-new") == ["a minute ago", "now"]
    await Retention(stores, log_seconds=30).run()
    assert await texts(stores, "ap-old", "ap-new") == ["now"]


async def test_many_old_lines_go_some_at_a_time(stores: Stores) -> None:
    long_ago = time.time() - 3600
    await stores.logs.write_all("ap-1", 1, [(long_ago, str(number)) for number in range(2500)])
    assert await stores.logs.forget_before(time.time() - 600, 1000) == 1000
    assert len(await texts(stores, "ap-1")) == 1500
    await Retention(stores, log_seconds=600).run()
    assert await texts(stores, "ap-1") == []


async def test_lines_of_builds_stay_as_long_as_their_image(stores: Stores) -> None:
    long_ago = time.time() - 3600
    for owner in ("im-1", "ap-1", "im-2", "ap-1"):
        await stores.logs.write_all(owner, 1, [(long_ago, f"of {owner}")])
    retention = Retention(stores, log_seconds=600)
    await retention.run()
    assert await texts(stores, "im-1", "im-2", "ap-1") == ["of im-1", "of im-2"]
    await stores.logs.write_all("ap-1", 1, [(long_ago, "late")])
    await retention.run()
    assert await texts(stores, "im-1", "im-2", "ap-1") == ["of im-1", "of im-2"]


async def test_without_any_lines_nothing_is_dropped(stores: Stores) -> None:
    assert await stores.logs.forget_before(time.time(), 1000) == 0
