"""A large object is read while it arrives: only what is wanted is fetched, and all of it is verified."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jiffy.errors import CorruptError, UnavailableError
from jiffy.objects.chunks import CHUNK, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import PartialObject, Partials
from jiffy.objects.tiers import Tiers
from tests.objects.conftest import one_source
from tests.objects.origin import Origin, serve_origin

DATA = random.Random(1).randbytes(40 * CHUNK + 12345)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def chunk_list(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(DATA)
    return list_chunks(path).encode()


@pytest.fixture
def origin(chunk_list: bytes) -> Iterator[Origin]:
    with serve_origin({DIGEST: DATA, hashlib.sha256(chunk_list).hexdigest(): chunk_list}) as running:
        yield running


@pytest.fixture
def partials(objects: LocalObjects, origin: Origin, chunk_list: bytes, tmp_path: Path) -> Partials:
    (tmp_path / "partial").mkdir()
    return make_partials(objects, origin, chunk_list, tmp_path)


def make_partials(objects: LocalObjects, origin: Origin, chunk_list: bytes, tmp_path: Path) -> Partials:
    partials = Partials(tmp_path / "partial", Tiers(objects, one_source(origin.url, deadline=2)))
    partials.learn({DIGEST: hashlib.sha256(chunk_list).hexdigest()})
    return partials


@pytest.fixture
def partial(partials: Partials) -> Iterator[PartialObject]:
    opened = partials.open(DIGEST)
    assert opened is not None
    yield opened
    partials.release(opened)


_ANY = bytes([0, *[1] * 255])


def fetched(partial: PartialObject, partials: Partials) -> int:
    """Chunks that are here."""
    return partials.paths(DIGEST)[1].read_bytes().translate(_ANY).count(1)


def test_a_small_read_fetches_one_chunk(partial: PartialObject, partials: Partials) -> None:
    assert partial.read(20 * CHUNK + 100, 50) == DATA[20 * CHUNK + 100 :][:50]
    assert 1 <= fetched(partial, partials) <= 4


def test_random_reads_fetch_only_what_is_near(partial: PartialObject, partials: Partials) -> None:
    for number in (30, 5, 18, 11):
        start = number * CHUNK + 777
        assert partial.read(start, 4096) == DATA[start : start + 4096]
    assert fetched(partial, partials) <= 16


def test_a_read_across_chunks_is_put_together(partial: PartialObject) -> None:
    start, size = 3 * CHUNK - 100, 2 * CHUNK + 200
    assert partial.read(start, size) == DATA[start : start + size]
    assert partial.read(start, size) == DATA[start : start + size]


def test_reads_end_where_the_object_does(partial: PartialObject) -> None:
    assert partial.read(len(DATA) - 10, 4096) == DATA[-10:]
    assert partial.read(len(DATA), 4096) == b""
    assert partial.read(len(DATA) + 5, 4096) == b""


def test_reading_it_all_makes_it_whole(partial: PartialObject, partials: Partials, tmp_path: Path) -> None:
    found = b"".join(partial.read(start, 2**17) for start in range(0, len(DATA), 2**17))
    assert found == DATA
    assert partials.local.read(DIGEST) == DATA
    assert [path.name for path in (tmp_path / "partial").iterdir()] == [f"{DIGEST}.have"]
    assert partials.open(DIGEST) is None
    assert partial.read(5, 10) == DATA[5:15]


def test_who_reads_on_is_ahead_of_the_network(partial: PartialObject, origin: Origin) -> None:
    for start in range(0, 20 * CHUNK, 2**17):
        partial.read(start, 2**17)
    assert len(origin.requests) < 20


def test_many_readers_of_one_chunk_cause_one_request(partial: PartialObject, origin: Origin) -> None:
    before = origin.settle()
    barrier = threading.Barrier(8)

    def read() -> bytes:
        barrier.wait()
        return partial.read(9 * CHUNK, 1000)

    with ThreadPoolExecutor(8) as pool:
        assert {job.result() for job in [pool.submit(read) for _ in range(8)]} == {DATA[9 * CHUNK :][:1000]}
    assert len(origin.requests) <= before + 3


def test_readers_everywhere_get_the_right_bytes(partial: PartialObject, partials: Partials) -> None:
    def read(seed: int) -> bool:
        dice = random.Random(seed)
        for _ in range(40):
            start, size = dice.randrange(len(DATA)), dice.randrange(1, 3 * CHUNK)
            if partial.read(start, size) != DATA[start : start + size]:
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))


@pytest.mark.parametrize("fault", ["error", "reset", "truncate", "flip"])
def test_a_fault_of_the_origin_is_outlived(partial: PartialObject, origin: Origin, fault: str) -> None:
    origin.faults = [fault, fault]
    assert partial.read(7 * CHUNK, 10) == DATA[7 * CHUNK :][:10]


def test_wrong_bytes_are_never_read(partial: PartialObject, partials: Partials, origin: Origin) -> None:
    origin.faults = ["flip"] * 100
    with pytest.raises(CorruptError):
        partial.read(7 * CHUNK, 10)
    assert fetched(partial, partials) == 0
    origin.faults = []
    assert partial.read(7 * CHUNK, 10) == DATA[7 * CHUNK :][:10]


def test_an_origin_that_is_away_fails_the_read_at_the_deadline(partial: PartialObject, origin: Origin) -> None:
    origin.faults = ["error"] * 1000
    with pytest.raises(UnavailableError):
        partial.read(7 * CHUNK, 10)


def test_what_is_here_is_found_by_the_next_process(
    partials: Partials, objects: LocalObjects, origin: Origin, chunk_list: bytes, tmp_path: Path
) -> None:
    first = partials.open(DIGEST)
    assert first is not None
    first.read(7 * CHUNK, 10)
    before = origin.settle()
    successor = make_partials(objects, origin, chunk_list, tmp_path)
    second = successor.open(DIGEST)
    assert second is not None
    assert second.read(7 * CHUNK, 10) == DATA[7 * CHUNK :][:10]
    assert len(origin.requests) == before
    partials.release(first)
    successor.release(second)


def test_a_prefetch_brings_the_ranges_that_it_names(partials: Partials, origin: Origin) -> None:
    partials.prefetch(DIGEST, ((2 * CHUNK, 3 * CHUNK), (20 * CHUNK, CHUNK)), threading.Event())
    assert [number for number, have in enumerate(partials.paths(DIGEST)[1].read_bytes()) if have] == [2, 3, 4, 20]


def test_a_prefetch_without_ranges_brings_it_all(partials: Partials) -> None:
    partials.prefetch(DIGEST, (), threading.Event())
    assert partials.local.read(DIGEST) == DATA


def test_a_cancelled_prefetch_stops(partials: Partials, origin: Origin) -> None:
    cancelled = threading.Event()
    cancelled.set()
    partials.prefetch(DIGEST, (), cancelled)
    assert len(origin.requests) <= 1


def test_ranges_beyond_the_end_harm_nobody(partials: Partials) -> None:
    partials.prefetch(DIGEST, ((39 * CHUNK, 100 * CHUNK), (500 * CHUNK, CHUNK)), threading.Event())
    assert partials.paths(DIGEST)[1].read_bytes().translate(_ANY).count(1) == 2


def test_an_object_without_a_list_is_not_to_be_had_in_parts(partials: Partials) -> None:
    assert partials.open("0" * 64) is None


def test_opens_wait_a_little_for_a_map_that_comes(objects: LocalObjects, origin: Origin, tmp_path: Path) -> None:
    partials = Partials(tmp_path / "partial", Tiers(objects, one_source(origin.url, deadline=2)))
    done = partials.expect_map()
    threading.Timer(0.05, done).start()
    assert partials.open(DIGEST) is None


def test_one_that_was_dropped_from_the_cache_is_fetched_anew(partials: Partials) -> None:
    """A map without its file would promise what is not there."""
    first = partials.open(DIGEST)
    assert first is not None
    first.read(7 * CHUNK, 10)
    partials.release(first)
    partials.paths(DIGEST)[0].unlink()
    second = partials.open(DIGEST)
    assert second is not None
    assert second.read(7 * CHUNK, 10) == DATA[7 * CHUNK :][:10]
    partials.release(second)


def test_one_that_is_dropped_while_it_is_read_is_read_on(partials: Partials, partial: PartialObject) -> None:
    partial.read(7 * CHUNK, 10)
    for path in partials.paths(DIGEST):
        path.unlink()
    assert b"".join(partial.read(start, CHUNK) for start in range(0, len(DATA), CHUNK)) == DATA
    assert not partials.local.has(DIGEST)


def test_on_several_disks_it_is_on_that_of_the_whole_object(
    objects: LocalObjects, partials: Partials, tmp_path: Path
) -> None:
    objects.disks.spread([tmp_path / "one", tmp_path / "two"])
    partial = partials.open(DIGEST)
    assert partial is not None
    place, _ = partials.paths(DIGEST)
    assert partial.read(0, CHUNK) == DATA[:CHUNK]
    assert place.resolve().parent.parent == objects.disks.of(DIGEST)
    assert partial.read(0, len(DATA)) == DATA
    partials.release(partial)
    assert objects.read(DIGEST) == DATA
    assert not place.is_symlink()


def test_what_was_on_a_disk_that_is_given_up_is_fetched_again(
    objects: LocalObjects, partials: Partials, tmp_path: Path
) -> None:
    objects.disks.spread([tmp_path / "one", tmp_path / "two"])
    disks = []
    for _ in range(2):
        partial = partials.open(DIGEST)
        assert partial is not None
        assert partial.read(3 * CHUNK, 100) == DATA[3 * CHUNK :][:100]
        partials.release(partial)
        disk = objects.disks.of(DIGEST)
        assert disk is not None
        disks.append(disk)
        objects.disks.give_up(disk)
    assert len(set(disks)) == 2
