"""A boot pack brings what a profile names in few requests, and never wrong bytes."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.errors import CorruptError
from jiffy.objects.chunks import LARGE
from jiffy.objects.local import LocalObjects
from jiffy.objects.pack import Pack, encode_packed_profile, read_packed_profile, write_pack
from jiffy.objects.profile import encode_profile, whole
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

CONTENTS = {
    hashlib.sha256(data).hexdigest(): data for data in (random.Random(n).randbytes(10 + n * n) for n in range(200))
}
PROFILE = whole(CONTENTS)
SIZES = st.dictionaries(st.binary(min_size=32, max_size=32).map(bytes.hex), st.integers(1, 10**9), max_size=50)


@pytest.fixture
def there(tmp_path: Path) -> LocalObjects:
    """What the origin has."""
    for name in ("there", "coming"):
        (tmp_path / name).mkdir()
    there = LocalObjects(tmp_path / "there", tmp_path / "coming")
    for data in CONTENTS.values():
        there.put(data)
    return there


@pytest.fixture
def pack(there: LocalObjects) -> Pack:
    return write_pack(PROFILE, there)


@pytest.fixture
def origin(there: LocalObjects, pack: Pack) -> Iterator[Origin]:
    with serve_origin({digest: there.read(digest) for digest in there}) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    return Tiers(objects, one_source(origin.url, deadline=0.5))


def test_all_objects_come_in_few_requests(tiers: Tiers, origin: Origin, pack: Pack) -> None:
    tiers.prefetch_pack(pack, threading.Event())
    assert {digest: tiers.local.read(digest) for digest in tiers.local} == CONTENTS
    assert origin.requests == [f"/objects/{pack.data}"] * 4


def test_what_is_mostly_here_is_left_to_others(tiers: Tiers, origin: Origin, pack: Pack) -> None:
    for data in list(CONTENTS.values())[100:]:
        tiers.local.put(data)
    tiers.prefetch_pack(pack, threading.Event())
    assert origin.requests == []


@pytest.mark.parametrize("fault", ["flip", "truncate", "error", "reset"])
def test_an_origin_that_misbehaves_gives_no_wrong_bytes(tiers: Tiers, origin: Origin, pack: Pack, fault: str) -> None:
    origin.faults = [fault] * 50
    tiers.prefetch_pack(pack, threading.Event())
    assert all(tiers.local.read(digest) == CONTENTS[digest] for digest in tiers.local)
    assert list(tiers.local.incoming.iterdir()) == []


def test_a_pack_that_is_gone_costs_nothing_but_the_try(tiers: Tiers, origin: Origin, pack: Pack) -> None:
    del origin.objects[pack.data]
    tiers.prefetch_pack(pack, threading.Event())
    tiers.prefetch(list(CONTENTS), threading.Event())
    assert len(list(tiers.local)) == len(CONTENTS)


def test_a_cancelled_one_stops(tiers: Tiers, pack: Pack) -> None:
    cancelled = threading.Event()
    cancelled.set()
    tiers.prefetch_pack(pack, cancelled)
    assert list(tiers.local) == []


def test_large_and_lost_objects_are_not_packed(objects: LocalObjects) -> None:
    small, large = objects.put(b"small"), objects.put(bytes(LARGE))
    pack = write_pack(whole([large, small, "0" * 64]), objects)
    assert (pack.sizes, objects.read(pack.data)) == ({small: 5}, b"small")


@given(sizes=SIZES, parts=st.integers(1, 8))
def test_the_spans_of_a_pack_hold_each_object_once(sizes: dict[str, int], parts: int) -> None:
    spans = list(Pack("0" * 64, sizes).split(parts))
    assert [entry for _, held in spans for entry in held] == list(sizes.items())
    assert len(spans) <= parts
    end = 0
    for (start, size), held in spans:
        assert (start, size) == (end, sum(size for _, size in held))
        end = start + size


@given(sizes=SIZES)
def test_a_packed_profile_is_read_as_it_was_written(sizes: dict[str, int]) -> None:
    pack = Pack("1" * 64, sizes)
    assert read_packed_profile(encode_packed_profile(pack, encode_profile(PROFILE))) == (pack, PROFILE)
    assert read_packed_profile(encode_profile(PROFILE)) == (None, PROFILE)


@pytest.mark.parametrize("end", [8, 20, 60, 100])
def test_a_broken_one_is_refused(end: int) -> None:
    encoded = encode_packed_profile(Pack("1" * 64, {"2" * 64: 5, "3" * 64: 6}), encode_profile(PROFILE))
    with pytest.raises(CorruptError):
        read_packed_profile(encoded[:end])
