"""A cache keeps within its limits, drops what was used longest ago, and never what somebody is about to open."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from jiffy.objects.base import object_path
from jiffy.objects.eviction import Evictor, LayerUse, Limits
from jiffy.objects.local import LocalObjects

SIZE = 64 * 1024
LONG_AGO = 1000.0


@pytest.fixture(autouse=True)
def nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """ctime cannot be set back."""
    monkeypatch.setattr("jiffy.objects.eviction._FRESH_SECONDS", -1e9)


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    folder = tmp_path / "partial"
    folder.mkdir()
    return folder


@pytest.fixture
def use(tmp_path: Path) -> LayerUse:
    return LayerUse(tmp_path / "layers.json")


def put(objects: LocalObjects, number: int) -> str:
    digest = objects.put(bytes([number]) * SIZE)
    time.sleep(0.01)
    return digest


def put_layer(objects: LocalObjects, *digests: str) -> str:
    """As in an EROFS image, paths stand among other bytes."""
    return objects.put(b"".join(b"\x00\x12/" + object_path(digest).encode() + b"\x00zz" for digest in digests))


def evict(objects: LocalObjects, partial: Path, use: LayerUse, limits: Limits) -> int:
    return Evictor(objects, partial, use, limits).run().objects


def test_within_its_limits_nothing_is_dropped(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    put(objects, 1)
    assert evict(objects, partial, use, Limits()) == 0
    assert evict(objects, partial, use, Limits(size=10 * SIZE, free=1)) == 0


def test_what_was_fetched_first_is_dropped_first(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    digests = [put(objects, number) for number in range(6)]
    evict(objects, partial, use, Limits(size=4 * SIZE))
    assert objects.missing(digests) == digests[:3]


def test_what_a_root_used_lately_stays(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    digests = [put(objects, number) for number in range(6)]
    layer = put_layer(objects, digests[0], digests[1])
    use.note([layer])
    evict(objects, partial, use, Limits(size=4 * SIZE))
    assert objects.missing([*digests[:2], layer]) == []
    assert len(objects.missing(digests)) >= 2


def test_use_is_known_to_the_next_worker(objects: LocalObjects, partial: Path, use: LayerUse, tmp_path: Path) -> None:
    digests = [put(objects, number) for number in range(6)]
    use.note([put_layer(objects, digests[0])])
    use.save()
    evict(objects, partial, LayerUse(tmp_path / "layers.json"), Limits(size=4 * SIZE))
    assert objects.has(digests[0])


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}'])
def test_a_broken_record_of_use_is_none(tmp_path: Path, objects: LocalObjects, content: str) -> None:
    (tmp_path / "layers.json").write_text(content)
    assert LayerUse(tmp_path / "layers.json").last_used(objects) == {}


def test_a_layer_that_was_dropped_is_forgotten(objects: LocalObjects, use: LayerUse) -> None:
    use.note(["0" * 64])
    assert use.last_used(objects) == {}


def test_room_is_made_for_what_else_is_on_the_disk(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    digests = [put(objects, number) for number in range(4)]
    free = shutil.disk_usage(objects.root).free
    evict(objects, partial, use, Limits(free=free + 10 * 2**30))
    assert objects.missing(digests) == digests


def test_what_was_just_fetched_stays(
    objects: LocalObjects, partial: Path, use: LayerUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jiffy.objects.eviction._FRESH_SECONDS", 60.0)
    put(objects, 1)
    assert evict(objects, partial, use, Limits(size=1)) == 0


def test_a_partial_object_counts_with_what_of_it_is_here(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    with (partial / ("a" * 64)).open("wb") as file:
        file.truncate(2**40)
        os.pwrite(file.fileno(), b"x" * SIZE, 2**30)
    (partial / f"{'a' * 64}.have").touch()
    assert evict(objects, partial, use, Limits(size=2 * SIZE)) == 0
    assert evict(objects, partial, use, Limits(size=SIZE // 2)) == 1
    assert list(partial.iterdir()) == []


def test_the_map_of_an_object_that_is_gone_goes_too(objects: LocalObjects, partial: Path, use: LayerUse) -> None:
    here, gone = put(objects, 1), put(objects, 2)
    for digest in (here, gone):
        (partial / f"{digest}.have").touch()
    objects.delete(gone)
    evict(objects, partial, use, Limits(size=10 * SIZE))
    assert [path.name for path in partial.iterdir()] == [f"{here}.have"]
