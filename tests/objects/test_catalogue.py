"""Who reads one file of a folder is brought the next ones as well."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from jiffy.errors import CorruptError
from jiffy.objects.catalogue import Neighbours, Place, encode_catalogue, make_catalogue, read_catalogue
from jiffy.objects.local import LocalObjects
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 99 for number in range(200))}
DIGESTS = list(CONTENTS)
PLACES = [Place(digest, len(data), 0) for digest, data in CONTENTS.items()]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin(dict(CONTENTS)) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    made = Tiers(objects, one_source(origin.url, deadline=2))
    made.neighbours.add(PLACES)
    return made


def beside(neighbours: Neighbours, digest: str) -> list[str]:
    return list(neighbours.beside(digest, 32))


def test_those_that_follow_come_first_then_those_before() -> None:
    neighbours = Neighbours()
    neighbours.add(PLACES[:20])
    assert beside(neighbours, DIGESTS[10]) == [*DIGESTS[11:20], *reversed(DIGESTS[:10])]
    assert beside(neighbours, "0" * 64) == []


def test_what_lies_before_in_another_folder_is_left_out() -> None:
    neighbours = Neighbours()
    neighbours.add([Place(digest, 1, number // 5) for number, digest in enumerate(DIGESTS[:10])])
    assert beside(neighbours, DIGESTS[6]) == [*DIGESTS[7:10], DIGESTS[5]]


def test_not_more_bytes_than_pay() -> None:
    neighbours = Neighbours()
    neighbours.add([Place(digest, 2**20, 0) for digest in DIGESTS[:10]])
    assert beside(neighbours, DIGESTS[0]) == DIGESTS[1:5]


def test_an_object_has_its_place_in_the_catalogue_that_was_learned_first() -> None:
    neighbours = Neighbours()
    neighbours.add(PLACES[:3])
    neighbours.add([PLACES[0], PLACES[9]])
    assert beside(neighbours, DIGESTS[0]) == DIGESTS[1:3]


def test_a_catalogue_survives_being_written() -> None:
    assert tuple(read_catalogue(encode_catalogue(PLACES))) == tuple(PLACES)


@pytest.mark.parametrize("data", [b"", b"jiffycat" + b"x" * 39, b"y" * 48])
def test_what_is_no_catalogue_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read_catalogue(data)


def test_large_and_empty_files_are_in_none_and_copies_once() -> None:
    files = [(b"/a/x", DIGESTS[0], 5), (b"/a/y", "", 0), (b"/b/x", DIGESTS[0], 5), (b"/b/z", DIGESTS[1], 2**30)]
    assert [place.digest for place in make_catalogue(files)] == [DIGESTS[0]]


def test_reading_in_order_takes_few_requests(tiers: Tiers, origin: Origin) -> None:
    for digest in DIGESTS:
        assert tiers.ensure(digest).read_bytes() == CONTENTS[digest]
    assert len(origin.requests) < len(DIGESTS) / 8


def test_what_is_in_no_list_comes_alone(tiers: Tiers, origin: Origin) -> None:
    data = b"alone"
    digest = hashlib.sha256(data).hexdigest()
    origin.objects[digest] = data
    assert tiers.ensure(digest).read_bytes() == data
    assert origin.requests == [f"/objects/{digest}"]


@pytest.mark.parametrize("fault", ["error", "truncate", "hang"])
def test_a_failing_request_for_many_falls_back_to_one(tiers: Tiers, origin: Origin, fault: str) -> None:
    origin.faults = [fault]
    started = time.monotonic()
    assert tiers.ensure(DIGESTS[5]).read_bytes() == CONTENTS[DIGESTS[5]]
    assert time.monotonic() - started < 5
    origin.released.set()


def test_wrong_bytes_among_many_are_not_kept(tiers: Tiers, origin: Origin) -> None:
    origin.faults = ["flip"]
    for digest in DIGESTS[:40]:
        assert tiers.ensure(digest).read_bytes() == CONTENTS[digest]
    assert all(hashlib.sha256(tiers.local.read(digest)).hexdigest() == digest for digest in tiers.local)
