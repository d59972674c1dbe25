"""Objects that nothing refers to are removed; what is needed, or new, stays."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from modal_proto import api_pb2

from jiffy.image.change import Change, encode_change
from jiffy.image.importing import KnownLayers
from jiffy.image.index import Entry, Kind, encode_index
from jiffy.objects.local import LocalObjects
from jiffy.server.collection import Collected, Collection
from jiffy.store.calls import Call
from jiffy.store.functions import StoredDefinition, StoredFunction
from jiffy.store.images import ImageContent, StoredImage
from jiffy.store.mounts import Mount
from jiffy.store.named_objects import NamedObject
from jiffy.store.stores import Stores

HOUR = 3600.0
LONG_AGO = 30 * 24 * HOUR


@pytest.fixture
def layers(tmp_path: Path, objects: LocalObjects) -> KnownLayers:
    (tmp_path / "layers").mkdir()
    return KnownLayers(tmp_path / "layers", objects)


@pytest.fixture
def collection(stores: Stores, objects: LocalObjects, layers: KnownLayers) -> Collection:
    return Collection(stores.references, objects, layers, lambda needed, before: 0)


def put(objects: LocalObjects, text: str) -> str:
    """An old object."""
    digest = objects.put(text.encode())
    os.utime(objects.path(digest), (time.time() - LONG_AGO,) * 2)
    return digest


def put_index(objects: LocalObjects, *digests: str) -> str:
    files = [Entry(f"/{digest[:8]}".encode(), Kind.FILE, 0o644, size=1, digest=digest) for digest in digests]
    digest = objects.put(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), *files]))
    os.utime(objects.path(digest), (time.time() - LONG_AGO,) * 2)
    return digest


async def age(stores: Stores) -> None:
    """Make every row old."""
    tables = ("mounts", "made_indexes", "blobs", "images")
    await stores.database.write(
        lambda connection: [connection.execute(f"UPDATE {table} SET created_at=1") for table in tables]
    )


async def run_function(stores: Stores, mount_id: str) -> None:
    await stores.apps.add("ap-1", "", api_pb2.APP_STATE_EPHEMERAL)
    definition = api_pb2.Function(mount_ids=[mount_id]).SerializeToString()
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", definition))


async def test_what_nothing_refers_to_is_removed(collection: Collection, objects: LocalObjects) -> None:
    digest = put(objects, "garbage")
    assert await collection.run() == Collected(kept=0, young=0, removed=1, removed_bytes=7, dry_run=False)
    assert not objects.has(digest)


async def test_a_dry_run_tells_and_removes_nothing(collection: Collection, objects: LocalObjects) -> None:
    digest = put(objects, "garbage")
    assert (await collection.run(dry_run=True)).removed == 1
    assert objects.has(digest)


async def test_what_is_new_stays(collection: Collection, objects: LocalObjects) -> None:
    objects.put(b"just uploaded")
    assert await collection.run() == Collected(kept=0, young=1, removed=0, removed_bytes=0, dry_run=False)


async def test_what_was_found_to_be_there_is_as_new(collection: Collection, objects: LocalObjects) -> None:
    """A client that hears that a file is there does not upload it."""
    digest = put(objects, "shared")
    assert objects.missing([digest]) == []
    assert (await collection.run()).removed == 0
    assert objects.has(digest)


async def test_storing_it_again_makes_it_new(collection: Collection, objects: LocalObjects) -> None:
    digests = [put(objects, text) for text in ("one", "two", "three")]
    objects.put(b"one")
    with objects.batch() as batch:
        batch.put(b"two")
        with batch.writer() as writer:
            writer.write(b"three")
            writer.publish()
    await collection.run()
    assert objects.missing(digests) == []


async def test_an_image_keeps_all_its_files(collection: Collection, stores: Stores, objects: LocalObjects) -> None:
    file = put(objects, "file")
    index = put_index(objects, file)
    await stores.images.add(StoredImage("im-1", "2025", b""))
    await stores.images.complete("im-1", ImageContent((index,), "3.11", "3.11.2"))
    assert (await collection.run()).kept == 2
    assert objects.missing([file, index]) == []


async def test_a_mount_lives_as_long_as_an_app_that_uses_it(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    file = put(objects, "file")
    await stores.mounts.add(Mount("mo-1", put_index(objects, file), ""))
    await run_function(stores, "mo-1")
    await age(stores)
    assert (await collection.run()).removed == 0
    await stores.apps.set_state("ap-1", api_pb2.APP_STATE_STOPPED, stopped=True)
    assert (await collection.run()).removed == 2
    assert not objects.has(file)


async def test_a_mount_of_an_earlier_version_stays_while_the_app_lives(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    file = put(objects, "file")
    await stores.mounts.add(Mount("mo-1", put_index(objects, file), ""))
    await run_function(stores, "mo-2")
    earlier = api_pb2.Function(mount_ids=["mo-1"]).SerializeToString()
    function = StoredFunction("fu-1", "ap-1", "f", b"", None)
    await stores.functions.define(function, StoredDefinition("de-1", "fu-1", b"", earlier))
    await stores.functions.define(function, StoredDefinition("de-2", "fu-1", b"", b""))
    await stores.functions.follow("de-2")
    await age(stores)
    assert (await collection.run()).removed == 0
    await stores.apps.set_state("ap-1", api_pb2.APP_STATE_STOPPED, stopped=True)
    assert (await collection.run()).removed == 2


async def test_a_volume_keeps_its_files(collection: Collection, stores: Stores, objects: LocalObjects) -> None:
    file = put(objects, "file")
    await stores.named_objects.add(NamedObject("vo-1", "volume", "main", "v", "", 0.0, None))
    await stores.volumes.add("vo-1", 1, put_index(objects, file))
    assert (await collection.run()).removed == 0
    head = (await stores.volumes.get("vo-1")).head
    await run_function(stores, "mo-1")
    await stores.tasks.add("ta-1", "fu-1", "ap-1", "wo-1")
    await stores.volumes.note_use("ta-1", head)
    await stores.named_objects.delete(["vo-1"])
    assert (await collection.run()).removed == 0, "a container still has it"
    await stores.tasks.end("ta-1", "a test", 1.0)
    await stores.volumes.forget_uses()
    assert (await collection.run()).removed == 2
    assert not objects.has(file)


async def test_a_mount_with_a_name_stays(collection: Collection, stores: Stores, objects: LocalObjects) -> None:
    await stores.mounts.add(Mount("mo-1", put_index(objects), ""), namespace=1, name="shared")
    await age(stores)
    assert (await collection.run()).removed == 0


async def test_what_was_made_of_something_lives_as_long_as_that(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    file = put(objects, "file")
    index = put_index(objects, file)
    merged, grafted = put_index(objects, file, put(objects, "x")), put_index(objects, put(objects, "y"))
    made = {f"merge/{'1' * 64}": (merged, index), f"graft/{'2' * 64}": (grafted, merged)}
    for name, (digest, of) in made.items():
        await stores.images.remember_made(name, {"index": digest, "of": of})
    for kind in ("erofs", "catalogue", "chunks"):
        await stores.images.remember_made(f"{kind}/{grafted}", {"index": put(objects, kind)})
    await stores.mounts.add(Mount("mo-1", index, ""))
    await run_function(stores, "mo-1")
    await age(stores)
    assert (await collection.run()).removed == 0
    await stores.apps.set_state("ap-1", api_pb2.APP_STATE_STOPPED, stopped=True)
    assert (await collection.run()).removed == 9
    assert list(objects) == []
    assert await stores.images.find_made(f"erofs/{grafted}") is None


async def test_bases_and_profiles_stay(collection: Collection, stores: Stores, objects: LocalObjects) -> None:
    await stores.images.remember_made("base/python/3.11", {"index": put_index(objects, put(objects, "python"))})
    await stores.profiles.put("python/3.11", put(objects, "profile"))
    await age(stores)
    assert (await collection.run()).kept == 3


async def test_steps_of_builds_stay_for_a_month_and_as_long_as_an_image_has_them(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    layer = put_index(objects, put(objects, "written by a step"))
    of_image = put_index(objects, put(objects, "in an image"))
    for name, made in (("step/a", layer), ("step/b", of_image)):
        await stores.images.remember_made(name, {"index": made, "layers": made})
    assert (await collection.run()).removed == 0
    await stores.images.add(StoredImage("im-1", "2025", b""))
    await stores.images.complete("im-1", ImageContent(layers=(of_image,), python="", python_version_info=""))
    await age(stores)
    assert (await collection.run()).removed == 2
    assert objects.has(of_image) and not objects.has(layer)
    assert await stores.images.find_made("step/a") is None


async def test_imported_layers_stay_for_a_month_since_they_were_used(
    collection: Collection, objects: LocalObjects, layers: KnownLayers, tmp_path: Path
) -> None:
    content = put(objects, "of a layer")
    change = objects.put(encode_change(Change([Entry(b"/x", Kind.FILE, 0o644, size=10, digest=content)])))
    layers.remember("sha256:aa", change)
    os.utime(objects.path(change), (1, 1))
    assert (await collection.run()).removed == 0
    os.utime(tmp_path / "layers/aa", (1, 1))
    os.utime(objects.path(change), (1, 1))
    assert (await collection.run()).removed == 2
    assert layers.find("sha256:aa") is None


async def test_what_an_images_python_said_is_no_index(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    layer, answer = put_index(objects), put(objects, "{}")
    await stores.images.remember_made("base/x", {"index": layer})
    await stores.images.remember_made("inspection/x", {"index": answer, "of": layer})
    assert (await collection.run()).removed == 0


async def test_a_blob_stays_for_a_week_or_as_long_as_an_input_waits_for_it(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    digests = []
    for number in (1, 2, 3):
        digests.append(put(objects, f"blob {number}"))
        await stores.blobs.add(f"bl-{number}", 6)
        await stores.blobs.complete(f"bl-{number}", digests[-1], 6)
    await run_function(stores, "mo-1")
    body = api_pb2.FunctionInput(args_blob_id="bl-1").SerializeToString()
    await stores.calls.add(Call("fc-1", "fu-1", "ap-1", 0, None), [(0, body)])
    await age(stores)
    await stores.blobs.add("bl-4", 6)
    await stores.blobs.complete("bl-4", digests[1], 6)
    await collection.run()
    assert objects.missing(digests) == [digests[2]]


async def test_an_index_that_was_lost_ends_nothing(
    collection: Collection, stores: Stores, objects: LocalObjects
) -> None:
    await stores.images.add(StoredImage("im-1", "2025", b""))
    await stores.images.complete("im-1", ImageContent((hashlib.sha256(b"lost").hexdigest(),), "3.11", "3.11.2"))
    put(objects, "garbage")
    assert (await collection.run()).removed == 1
