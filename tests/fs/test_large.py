"""Large files are read while they arrive: what is read is fetched, and little else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jiffy.fs.mount import mount_tmpfs, unmount
from jiffy.fs.prefetch import Request
from jiffy.objects.chunks import CHUNK, encode_chunk_map, list_chunks
from jiffy.objects.profile import encode_profile
from tests.fs.conftest import CONTENTS, ColdHost, cold_host, kill_daemon
from tests.objects.origin import Origin

pytestmark = pytest.mark.root

DATA = random.Random(2).randbytes(64 * CHUNK + 999)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def large(tmp_path: Path, origin: Origin) -> AsyncIterator[ColdHost]:
    """A host that knows the chunks of one more file, `huge`."""
    async with cold_host(tmp_path, origin, {"huge": DATA}) as host:
        chunk_list = tell_of_chunks(host, tmp_path)
        async with asyncio.timeout(10):
            while not host.objects.has(chunk_list):
                await asyncio.sleep(0.01)
        yield host


@pytest.fixture(params=[16, 400], ids=["no room", "room for some"])
async def full(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> AsyncIterator[ColdHost]:
    """The same, with room for so many pages."""
    store = tmp_path / "store"
    store.mkdir()
    mount_tmpfs(store, size=request.param * 4096)
    try:
        async with cold_host(tmp_path, origin, {"huge": DATA}) as host:
            tell_of_chunks(host, tmp_path)
            await asyncio.sleep(0.2)
            yield host
    finally:
        unmount(store)


def tell_of_chunks(host: ColdHost, tmp_path: Path) -> str:
    """Gives the digest of the list."""
    path = tmp_path / "huge"
    path.write_bytes(DATA)
    host.origin.objects[DIGEST] = DATA
    chunk_list = put(host, list_chunks(path).encode())
    host.mount.tell(Request.CHUNK_MAP, put(host, encode_chunk_map([(DIGEST, chunk_list)])))
    return chunk_list


def put(host: ColdHost, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    host.origin.objects[digest] = data
    return digest


def chunks_here(host: ColdHost) -> list[int]:
    have = (host.data.partial / f"{DIGEST}.have").read_bytes()
    return [number for number, is_here in enumerate(have) if is_here]


def read_at(path: Path, places: list[int], size: int = 4096) -> list[bytes]:
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return [os.pread(file.fileno(), size, place) for place in places]


async def test_a_random_reader_fetches_what_is_near(large: ColdHost) -> None:
    places = [50 * CHUNK + 5, 3 * CHUNK, 30 * CHUNK]
    found = await asyncio.to_thread(read_at, large.root / "huge", places)
    assert found == [DATA[place : place + 4096] for place in places]
    assert len(chunks_here(large)) <= 16
    assert not large.objects.has(DIGEST)


async def test_the_next_open_finds_what_the_last_one_fetched(large: ColdHost) -> None:
    await asyncio.to_thread(read_at, large.root / "huge", [50 * CHUNK])
    before = await asyncio.to_thread(large.origin.settle)
    assert await asyncio.to_thread(read_at, large.root / "huge", [50 * CHUNK + 9000]) == [
        DATA[50 * CHUNK + 9000 :][:4096]
    ]
    assert len(large.origin.requests) == before


async def test_its_size_is_right_from_the_first(large: ColdHost) -> None:
    def sizes() -> tuple[int, int, int]:
        with (large.root / "huge").open("rb") as file:
            return (large.root / "huge").stat().st_size, os.fstat(file.fileno()).st_size, file.seek(0, os.SEEK_END)

    assert await asyncio.to_thread(sizes) == (len(DATA),) * 3


async def test_read_to_the_end_it_becomes_a_file_of_the_host(large: ColdHost) -> None:
    assert await asyncio.to_thread((large.root / "huge").read_bytes) == DATA
    assert large.objects.read(DIGEST) == DATA
    assert [path.name for path in large.data.partial.iterdir()] == [f"{DIGEST}.have"]
    assert await asyncio.to_thread((large.root / "huge").read_bytes) == DATA


async def test_one_that_becomes_whole_while_it_is_open_is_opened_again(large: ColdHost) -> None:
    """The kernel refuses to pass reads through to a file that it also asks the daemon for."""

    def use() -> bool:
        with (large.root / "huge").open("rb") as first:
            first.read(10)
            whole = (large.root / "huge").read_bytes() == DATA
            with (large.root / "huge").open("rb") as second:
                second.seek(-100, os.SEEK_END)
                return whole and second.read() == DATA[-100:] and first.read(10) == DATA[10:20]

    assert await asyncio.to_thread(use)


async def test_it_is_mapped(large: ColdHost) -> None:
    """By a process of its own: a fault in a mapping holds up all threads of Python, and the origin has some here."""
    places = [random.Random(3).randrange(len(DATA)) for _ in range(5)]
    script = f"""
import mmap
with open({str(large.root / "huge")!r}, "rb") as file:
    view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view.madvise(mmap.MADV_RANDOM)
    print([view[place] for place in {places}])
"""
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.stdout.decode().strip() == str([DATA[place] for place in places])
    assert len(chunks_here(large)) <= 24


async def test_many_processes_read_it_at_once(large: ColdHost) -> None:
    command = f"sha256sum {large.root / 'huge'}"
    script = " & ".join([command] * 4) + " & wait"
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [DIGEST] * 4


async def test_a_daemon_that_is_killed_meanwhile_is_not_noticed(large: ColdHost) -> None:
    job = asyncio.create_task(asyncio.to_thread((large.root / "huge").read_bytes))
    for _ in range(3):
        await kill_daemon(large.mount)
        await asyncio.sleep(0.1)
    assert await asyncio.wait_for(job, 30) == DATA
    assert await asyncio.to_thread((large.root / "huge").read_bytes) == DATA


async def test_one_opened_by_a_dead_daemon_is_read_by_the_next_and_opened_again(large: ColdHost) -> None:
    def begin() -> subprocess.Popen[bytes]:
        script = "exec 3<$0; head -c 10 <&3 >/dev/null; read -r line; cat <&3 | tail -c 10; head -c 10 $0"
        return subprocess.Popen(
            ["sh", "-c", script, str(large.root / "huge")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    reader = await asyncio.to_thread(begin)
    await asyncio.sleep(0.2)
    os.kill(large.mount.pid, signal.SIGKILL)
    out, _ = await asyncio.to_thread(reader.communicate, b"\n", 30)
    assert out == DATA[-10:] + DATA[:10]


async def test_a_profile_brings_the_parts_that_starts_read(large: ColdHost) -> None:
    profile = {DIGEST: ((10 * CHUNK, 2 * CHUNK), (40 * CHUNK, CHUNK)), large.digest("file-1"): ()}
    large.mount.tell(Request.PREFETCH, put(large, encode_profile(profile)), "start")
    async with asyncio.timeout(10):
        while not large.objects.has(large.digest("file-1")) or len(chunks_here(large)) < 3:
            await asyncio.sleep(0.01)
    assert chunks_here(large) == [10, 11, 40]


@pytest.mark.parametrize("fault", ["error", "reset", "truncate", "flip"])
async def test_a_fault_in_the_middle_is_outlived(large: ColdHost, fault: str) -> None:
    large.origin.faults = [fault, ""] * 3
    assert await asyncio.to_thread((large.root / "huge").read_bytes) == DATA


async def test_a_file_without_a_list_is_fetched_whole(large: ColdHost) -> None:
    assert await asyncio.to_thread((large.root / "large").read_bytes) == CONTENTS["large"]


async def test_a_full_disk_keeps_nobody_from_reading_it(full: ColdHost) -> None:
    pid = full.mount.pid
    places = [50 * CHUNK + 5, 3 * CHUNK, 30 * CHUNK]
    assert await asyncio.to_thread(read_at, full.root / "huge", places) == [DATA[place:][:4096] for place in places]
    assert await asyncio.to_thread((full.root / "huge").read_bytes) == DATA
    assert full.mount.pid == pid
