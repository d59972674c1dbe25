"""What this host lacks is fetched, verified and kept; an origin that misbehaves never becomes wrong bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jiffy.errors import CorruptError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.local import LocalObjects
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

DATA = b"contents of some file " * 4000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin({DIGEST: DATA}) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    return Tiers(objects, one_source(origin.url, deadline=3))


def is_clean(tiers: Tiers) -> bool:
    return list(tiers.local.incoming.iterdir()) == []


def test_an_absent_object_is_fetched_and_kept(tiers: Tiers, origin: Origin) -> None:
    assert tiers.ensure(DIGEST).read_bytes() == DATA
    assert tiers.ensure(DIGEST).read_bytes() == DATA
    assert origin.requests == [f"/objects/{DIGEST}"]
    assert is_clean(tiers)


def test_an_object_that_is_here_is_not_asked_for(tiers: Tiers, origin: Origin) -> None:
    tiers.local.put(DATA)
    tiers.ensure(DIGEST)
    assert origin.requests == []


def test_many_that_want_one_object_cause_one_fetch(tiers: Tiers, origin: Origin) -> None:
    barrier = threading.Barrier(16)

    def want() -> bytes:
        barrier.wait()
        return tiers.ensure(DIGEST).read_bytes()

    with ThreadPoolExecutor(16) as pool:
        assert {future.result() for future in [pool.submit(want) for _ in range(16)]} == {DATA}
    assert len(origin.requests) == 1


@pytest.mark.parametrize("fault", ["error", "reset", "truncate", "flip"])
def test_a_fault_of_the_origin_is_outlived(tiers: Tiers, origin: Origin, fault: str) -> None:
    origin.faults = [fault, fault]
    assert tiers.ensure(DIGEST).read_bytes() == DATA
    assert len(origin.requests) == 3
    assert is_clean(tiers)


@pytest.mark.parametrize("fault", ["truncate", "flip"])
def test_wrong_bytes_are_never_published(tiers: Tiers, origin: Origin, fault: str) -> None:
    origin.faults = [fault] * 100
    with pytest.raises(CorruptError):
        tiers.ensure(DIGEST)
    assert not tiers.local.has(DIGEST)
    assert is_clean(tiers)


def test_a_failed_fetch_is_tried_anew_by_the_next_who_asks(tiers: Tiers, origin: Origin) -> None:
    origin.faults = ["flip"] * 3
    with pytest.raises(CorruptError):
        tiers.ensure(DIGEST)
    assert tiers.ensure(DIGEST).read_bytes() == DATA


def test_an_origin_that_only_fails_is_given_up_at_the_deadline(objects: LocalObjects, origin: Origin) -> None:
    origin.faults = ["error"] * 1000
    tiers = Tiers(objects, one_source(origin.url, deadline=0.3))
    with pytest.raises(UnavailableError, match="it answered 500"):
        tiers.ensure(DIGEST)


def test_an_object_that_nobody_has_is_not_found_at_once(tiers: Tiers, origin: Origin) -> None:
    with pytest.raises(NotFoundError):
        tiers.ensure("0" * 64)
    assert len(origin.requests) == 1


def test_a_wrong_token_says_so(objects: LocalObjects, origin: Origin) -> None:
    with pytest.raises(UnauthenticatedError, match="refused the token"):
        Tiers(objects, one_source(origin.url, deadline=1, token="wrong:token")).ensure(DIGEST)


def test_an_origin_that_does_not_listen_is_unavailable(objects: LocalObjects, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        Tiers(objects, one_source("http://127.0.0.1:1", deadline=0.2, token="id:secret")).ensure(DIGEST)


def test_a_host_without_an_origin_has_what_it_has(objects: LocalObjects) -> None:
    with pytest.raises(NotFoundError, match="no origin"):
        Tiers(objects, None).ensure(DIGEST)
