"""What starts read is merged over runs, and used for starts that resemble them."""

from __future__ import annotations

import pytest

from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import read_profile, whole
from jiffy.server.profiles import Profiles, Start
from jiffy.store.stores import Stores

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def profiles(stores: Stores, objects: LocalObjects) -> Profiles:
    return Profiles(stores.profiles, objects, lambda digest: Index.from_file(objects.path(digest)))


def index_of(objects: LocalObjects, *digests: str) -> str:
    files = [Entry(f"/{digest[:4]}".encode(), Kind.FILE, 0o644, size=1, digest=digest) for digest in digests]
    return objects.put(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), *files]))


def start(objects: LocalObjects, function: str = "m.f", image: str = "im-1", holds: tuple[str, ...] = (A, B)) -> Start:
    return Start(function, image, "3.11", (index_of(objects, *holds),))


async def run(profiles: Profiles, task_id: str, what: Start, reads: tuple[str, ...]) -> None:
    await profiles.advise(task_id, what)
    await profiles.record(task_id, whole(reads))
    profiles.forget(task_id)


async def advised(profiles: Profiles, objects: LocalObjects, what: Start) -> tuple[str, ...]:
    advice = await profiles.advise("ta-next", what)
    return tuple(read_profile(objects.read(advice.profile))) if advice.profile else ()


async def test_the_first_start_has_no_profile_and_is_recorded(profiles: Profiles, objects: LocalObjects) -> None:
    advice = await profiles.advise("ta-1", start(objects))
    assert (advice.profile, advice.record) == ("", True)


async def test_what_a_start_read_is_advised_to_the_next_in_its_order(profiles: Profiles, objects: LocalObjects) -> None:
    await run(profiles, "ta-1", start(objects), (B, A))
    assert await advised(profiles, objects, start(objects)) == (B, A)


async def test_runs_are_merged_and_after_a_few_not_recorded_any_more(profiles: Profiles, objects: LocalObjects) -> None:
    for number, reads in enumerate([(A,), (A, B), (C,)]):
        await run(profiles, f"ta-{number}", start(objects), reads)
    assert await advised(profiles, objects, start(objects)) == (A, B, C)
    assert not (await profiles.advise("ta-4", start(objects))).record


async def test_another_function_of_the_image_begins_with_what_the_image_read(
    profiles: Profiles, objects: LocalObjects
) -> None:
    await run(profiles, "ta-1", start(objects, "m.f"), (A,))
    assert await advised(profiles, objects, start(objects, "m.g")) == (A,)


async def test_an_image_never_seen_begins_with_what_other_images_read_that_it_has_too(
    profiles: Profiles, objects: LocalObjects
) -> None:
    await run(profiles, "ta-1", start(objects), (A, B))
    assert await advised(profiles, objects, start(objects, image="im-2", holds=(B, C))) == (B,)


async def test_what_comes_after_the_end_of_a_start_is_ignored(profiles: Profiles, objects: LocalObjects) -> None:
    await profiles.advise("ta-1", start(objects))
    profiles.forget("ta-1")
    await profiles.record("ta-1", whole([A]))
    assert await advised(profiles, objects, start(objects)) == ()


async def test_a_profile_whose_object_is_lost_is_made_anew(profiles: Profiles, objects: LocalObjects) -> None:
    await run(profiles, "ta-1", start(objects), (A,))
    objects.delete((await profiles.advise("ta-2", start(objects))).profile)
    await profiles.record("ta-2", whole([B]))
    assert await advised(profiles, objects, start(objects)) == (B,)


async def test_only_a_profile_of_the_image_itself_makes_reading_ahead_needless(
    profiles: Profiles, objects: LocalObjects
) -> None:
    assert not (await profiles.advise("ta-0", start(objects))).is_known
    await run(profiles, "ta-1", start(objects), (A,))
    assert (await profiles.advise("ta-2", start(objects))).is_known
    assert not (await profiles.advise("ta-3", start(objects, image="im-2"))).is_known
