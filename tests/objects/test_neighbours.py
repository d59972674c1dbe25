"""Who reads one file of a folder is brought the next ones as well."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from jiffy.objects.local import LocalObjects
from jiffy.objects.neighbours import Neighbours
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 99 for number in range(200))}
DIGESTS = list(CONTENTS)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin(dict(CONTENTS)) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    made = Tiers(objects, one_source(origin.url, deadline=2))
    made.neighbours.add(DIGESTS)
    return made


def test_those_that_follow_are_known_in_their_order() -> None:
    neighbours = Neighbours()
    neighbours.add(DIGESTS)
    following = neighbours.following(DIGESTS[10])
    assert list(following) == DIGESTS[11 : 11 + len(following)]
    assert neighbours.following(DIGESTS[-1]) == []
    assert neighbours.following("0" * 64) == ()


def test_an_object_has_its_place_in_the_list_that_was_learned_first() -> None:
    neighbours = Neighbours()
    neighbours.add(DIGESTS[:3])
    neighbours.add([DIGESTS[0], DIGESTS[9]])
    assert list(neighbours.following(DIGESTS[0])) == DIGESTS[1:3]


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
