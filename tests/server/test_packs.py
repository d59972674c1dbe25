"""Boot packs are made beside the starts, once, and kept as long as their profile."""

from __future__ import annotations

import asyncio
import os
import time

from jiffy.image.importing import KnownLayers
from jiffy.objects.local import LocalObjects
from jiffy.objects.pack import read_packed_profile
from jiffy.objects.profile import encode_profile, whole
from jiffy.server.collection import Collection
from jiffy.server.derivations import Derivations
from jiffy.server.packs import Packs
from jiffy.store.stores import Stores


def put_profile(objects: LocalObjects, count: int) -> str:
    return objects.put(encode_profile(whole(objects.put(b"%d" % number) for number in range(count))))


async def find_packed(packs: Packs, profile: str) -> str:
    async with asyncio.timeout(10):
        while (found := packs.find(profile)) == profile:
            await asyncio.sleep(0.01)
    return found


async def test_the_first_start_does_not_wait_and_later_ones_have_it(stores: Stores, objects: LocalObjects) -> None:
    packs = Packs(Derivations(stores, objects), objects)
    profile = put_profile(objects, 50)
    assert packs.find(profile) == profile
    pack, wanted = read_packed_profile(objects.read(await find_packed(packs, profile)))
    assert pack is not None
    assert set(pack.sizes) == set(wanted)
    await packs.close()


async def test_few_objects_are_not_worth_one(stores: Stores, objects: LocalObjects) -> None:
    packs = Packs(Derivations(stores, objects), objects)
    profile = put_profile(objects, 5)
    packs.find(profile)
    await asyncio.sleep(0.1)
    assert packs.find(profile) == profile
    await packs.close()


async def test_a_profile_that_is_lost_harms_nobody(stores: Stores, objects: LocalObjects) -> None:
    packs = Packs(Derivations(stores, objects), objects)
    assert packs.find("0" * 64) == "0" * 64
    await packs.close()


async def test_it_is_kept_as_long_as_its_profile(stores: Stores, objects: LocalObjects) -> None:
    packs = Packs(Derivations(stores, objects), objects)
    profile = put_profile(objects, 50)
    packed = await find_packed(packs, profile)
    pack, _ = read_packed_profile(objects.read(packed))
    assert pack is not None
    await packs.close()
    await stores.profiles.put("image/im-1", profile)
    await stores.database.write(lambda connection: connection.execute("UPDATE made_indexes SET created_at=1"))
    for digest in objects:
        os.utime(objects.path(digest), (time.time() - 10**7,) * 2)
    await _collection(stores, objects).run()
    assert set(objects) == {profile, packed, pack.data}
    await stores.database.write(lambda connection: connection.execute("DELETE FROM profiles"))
    for digest in objects:
        os.utime(objects.path(digest), (time.time() - 10**7,) * 2)
    await _collection(stores, objects).run()
    assert list(objects) == []


def _collection(stores: Stores, objects: LocalObjects) -> Collection:
    return Collection(stores.references, objects, KnownLayers(objects.incoming, objects), lambda needed, before: 0)
