"""Several places that have objects are as one: the nearest that answers well is enough."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from jiffy.errors import CorruptError, InvalidError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.base import Parts
from jiffy.objects.http import HttpObjects
from jiffy.objects.sources import Sources, open_sources
from tests.objects.origin import Origin, serve_origin

CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 999 for number in range(20))}
DIGESTS = list(CONTENTS)


@pytest.fixture
def near() -> Iterator[Origin]:
    with serve_origin(dict(CONTENTS)) as running:
        yield running


@pytest.fixture
def far() -> Iterator[Origin]:
    with serve_origin(dict(CONTENTS)) as running:
        yield running


@pytest.fixture
def sources(near: Origin, far: Origin) -> Sources:
    return Sources([HttpObjects(each.url, each.token, stall=0.5) for each in (near, far)], deadline=1)


def fetch(sources: Sources, digest: str) -> bytes:
    def take(parts: Parts) -> bytes:
        data = b"".join(parts)
        verify(digest, data)
        return data

    return sources.fetch(digest, take)


def verify(digest: str, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptError("wrong bytes")


def fetch_many(sources: Sources) -> dict[str, bytes]:
    came: dict[str, bytes] = {}

    def receive(digest: str, parts: Parts) -> None:
        came[digest] = b"".join(parts)

    sources.fetch_many(DIGESTS, receive)
    return came


def test_the_nearest_is_asked_and_no_other(sources: Sources, near: Origin, far: Origin) -> None:
    assert fetch(sources, DIGESTS[0]) == CONTENTS[DIGESTS[0]]
    assert len(near.requests) == 1
    assert far.requests == []


def test_what_the_nearest_lacks_the_next_has(sources: Sources, near: Origin) -> None:
    near.objects.clear()
    assert fetch(sources, DIGESTS[0]) == CONTENTS[DIGESTS[0]]
    assert fetch_many(sources) == CONTENTS


def test_of_a_batch_only_what_is_lacking_is_asked_of_the_next(sources: Sources, near: Origin, far: Origin) -> None:
    for digest in DIGESTS[:5]:
        del near.objects[digest]
    assert fetch_many(sources) == CONTENTS
    assert len(far.requests) == 1


@pytest.mark.parametrize("fault", ["error", "reset", "hang", "truncate", "flip"])
def test_when_the_nearest_fails_the_next_helps_at_once(sources: Sources, near: Origin, fault: str) -> None:
    near.faults = [fault]
    started = time.monotonic()
    assert fetch(sources, DIGESTS[0]) == CONTENTS[DIGESTS[0]]
    assert time.monotonic() - started < 2


def test_a_source_that_failed_is_left_alone_for_a_while(sources: Sources, near: Origin, far: Origin) -> None:
    near.faults = ["error"]
    for digest in DIGESTS:
        fetch(sources, digest)
    assert len(near.requests) == 1
    assert len(far.requests) == 20


def test_when_all_rest_all_are_asked(sources: Sources, near: Origin, far: Origin) -> None:
    near.faults, far.faults = ["error"], ["error"]
    assert fetch(sources, DIGESTS[0]) == CONTENTS[DIGESTS[0]]


def test_when_all_fail_each_is_named(sources: Sources, near: Origin, far: Origin) -> None:
    near.faults, far.faults = ["error"] * 1000, ["error"] * 1000
    with pytest.raises(UnavailableError) as caught:
        fetch(sources, DIGESTS[0])
    assert near.url in str(caught.value) and far.url in str(caught.value)


def test_what_nobody_has_is_not_found(sources: Sources) -> None:
    with pytest.raises(NotFoundError):
        fetch(sources, "0" * 64)


def test_a_refused_token_is_an_answer(near: Origin) -> None:
    with pytest.raises(UnauthenticatedError):
        fetch(Sources([HttpObjects(near.url, "wrong:token")], deadline=5), DIGESTS[0])


def test_a_span_is_fetched_again_when_it_is_wrong(sources: Sources, near: Origin) -> None:
    digest = DIGESTS[3]
    near.faults = ["flip"]
    wanted = CONTENTS[digest][100:200]

    def take(parts: Parts) -> bytes:
        data = b"".join(parts)
        if data != wanted:
            raise CorruptError("wrong bytes")
        return data

    assert sources.fetch(digest, take, (100, 100)) == wanted


def test_a_span_that_is_too_short_is_no_answer(near: Origin) -> None:
    near.faults = ["truncate"]
    with pytest.raises(CorruptError):
        HttpObjects(near.url, near.token).fetch(DIGESTS[0], b"".join, (0, 100))


@pytest.mark.parametrize("url", ["ftp://host/path", "nonsense"])
def test_an_address_of_an_unknown_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="no place for objects"):
        open_sources([url], "")


def test_no_address_is_no_source() -> None:
    assert open_sources([], "") is None
