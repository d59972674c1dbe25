"""Objects that rotted on the disk are found and mended, under the eyes of their readers."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.errors import NotFoundError
from jiffy.objects.local import LocalObjects
from jiffy.objects.scrub import Scrubber
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

DATA = {hashlib.sha256(data).hexdigest(): data for data in (bytes([number]) * 9000 for number in range(10))}
DIGESTS = sorted(DATA)
CANCELLED = threading.Event()
CANCELLED.set()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin(dict(DATA)) as running:
        yield running


@pytest.fixture
def tiers(objects: LocalObjects, origin: Origin) -> Tiers:
    for data in DATA.values():
        objects.put(data)
    return Tiers(objects, one_source(origin.url, deadline=0.3))


@pytest.fixture
def scrubber(tiers: Tiers, tmp_path: Path) -> Scrubber:
    return Scrubber(tiers, tmp_path / "quarantine", rate=1e9)


def rot(tiers: Tiers, digest: str, data: bytes) -> None:
    path = tiers.local.path(digest)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(data)
    path.chmod(0o444)


def test_sound_objects_are_read_and_left_alone(scrubber: Scrubber, origin: Origin) -> None:
    findings = scrubber.run(threading.Event())
    assert (findings.objects, findings.size, findings.mended) == (10, 90_000, 0)
    assert origin.requests == []


def test_a_flipped_byte_is_mended(scrubber: Scrubber, tiers: Tiers) -> None:
    rot(tiers, DIGESTS[3], b"rot")
    assert scrubber.run(threading.Event()).mended == 1
    assert tiers.local.read(DIGESTS[3]) == DATA[DIGESTS[3]]
    assert tiers.local.path(DIGESTS[3]).stat().st_mode & 0o777 == 0o444
    assert scrubber.run(threading.Event()).mended == 0


@pytest.mark.parametrize("length", [0, 10, 20_000])
def test_an_object_of_the_wrong_length_is_mended(scrubber: Scrubber, tiers: Tiers, length: int) -> None:
    os.truncate(tiers.local.path(DIGESTS[0]), length)
    assert scrubber.run(threading.Event()).mended == 1
    assert tiers.local.read(DIGESTS[0]) == DATA[DIGESTS[0]]


def test_who_has_it_open_or_mapped_reads_the_right_bytes_afterwards(scrubber: Scrubber, tiers: Tiers) -> None:
    rot(tiers, DIGESTS[5], b"rot")
    with (
        tiers.local.path(DIGESTS[5]).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        assert view[100:103] == b"rot"
        scrubber.run(threading.Event())
        assert view[:] == file.read() == DATA[DIGESTS[5]]


def test_what_cannot_be_had_anew_is_put_aside(scrubber: Scrubber, tiers: Tiers, origin: Origin, tmp_path: Path) -> None:
    rot(tiers, DIGESTS[7], b"rot")
    del origin.objects[DIGESTS[7]]
    assert scrubber.run(threading.Event()).put_aside == 1
    assert (tmp_path / "quarantine" / DIGESTS[7]).exists()
    with pytest.raises(NotFoundError):
        tiers.ensure(DIGESTS[7])


def test_a_scrub_can_be_ended_early(scrubber: Scrubber) -> None:
    assert scrubber.run(CANCELLED).objects == 0
