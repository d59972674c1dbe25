"""A prefetch brings many objects in few requests, gets in nobody's way, and never brings wrong bytes."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import pytest

from jiffy.objects.local import LocalObjects
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 999 for number in range(100))}
DIGESTS = list(CONTENTS)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin(dict(CONTENTS)) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    return Tiers(objects, one_source(origin.url, deadline=2))


def prefetch(tiers: Tiers, digests: list[str] = DIGESTS) -> None:
    tiers.prefetch(digests, threading.Event())


def test_many_objects_come_in_few_requests(tiers: Tiers, origin: Origin) -> None:
    prefetch(tiers)
    assert {digest: tiers.local.read(digest) for digest in DIGESTS} == CONTENTS
    assert len(origin.requests) <= 4


def test_what_is_here_is_not_asked_for(tiers: Tiers, origin: Origin) -> None:
    prefetch(tiers)
    origin.requests.clear()
    prefetch(tiers)
    assert origin.requests == []


def test_an_object_that_the_origin_lacks_is_left_out(tiers: Tiers) -> None:
    prefetch(tiers, ["0" * 64, *DIGESTS[:10]])
    assert sorted(tiers.local) == sorted(DIGESTS[:10])


@pytest.mark.parametrize("fault", ["error", "truncate", "flip"])
def test_an_origin_that_misbehaves_costs_the_prefetch_only(tiers: Tiers, origin: Origin, fault: str) -> None:
    origin.faults = [fault] * 4
    prefetch(tiers)
    assert all(hashlib.sha256(tiers.local.read(digest)).hexdigest() == digest for digest in tiers.local)
    assert list(tiers.local.incoming.iterdir()) == []
    assert {digest: tiers.ensure(digest).read_bytes() for digest in DIGESTS} == CONTENTS


def test_a_reader_does_not_wait_long_for_a_prefetch_that_hangs(tiers: Tiers, origin: Origin) -> None:
    origin.faults = ["hang"] * 2
    job = threading.Thread(target=prefetch, args=(tiers,))
    job.start()
    while origin.faults:
        time.sleep(0.005)
    started = time.monotonic()
    assert tiers.ensure(DIGESTS[50]).read_bytes() == CONTENTS[DIGESTS[50]]
    assert time.monotonic() - started < 1
    origin.released.set()
    job.join()


def test_a_cancelled_prefetch_stops(tiers: Tiers) -> None:
    cancelled = threading.Event()
    cancelled.set()
    tiers.prefetch(DIGESTS, cancelled)
    assert len(list(tiers.local)) <= 4
    assert list(tiers.local.incoming.iterdir()) == []


def test_without_an_origin_nothing_is_done(objects: LocalObjects) -> None:
    prefetch(Tiers(objects, None))
    assert list(objects) == []
