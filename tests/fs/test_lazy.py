"""A root whose contents are elsewhere: names and stats at once, contents when they are opened, right or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlparse

import pytest

from jiffy.fs.prefetch import Request
from jiffy.objects.catalogue import Place, encode_catalogue
from jiffy.objects.profile import encode_profile, whole
from tests.fs.conftest import CONTENTS, OBJECTS, ColdHost, cold_host, kill_daemon
from tests.objects.origin import serve_origin

pytestmark = pytest.mark.root

PIECE, STEP = 1000, 2**20


async def read(path: Path) -> bytes:
    """In a thread: the daemon's keeper runs in this loop."""
    return await asyncio.to_thread(path.read_bytes)


async def test_names_and_stats_need_no_contents(host: ColdHost) -> None:
    names = await asyncio.to_thread(os.listdir, host.root)
    sizes = {name: (host.root / name).stat().st_size for name in names}
    assert sizes == {name: len(data) for name, data in CONTENTS.items()}
    assert host.fetched() == []


async def test_a_file_is_fetched_when_it_is_opened_and_only_it(host: ColdHost) -> None:
    assert await read(host.root / "file-3") == CONTENTS["file-3"]
    assert host.fetched() == [host.digest("file-3")]
    assert host.objects.read(host.digest("file-3")) == CONTENTS["file-3"]


async def test_a_file_that_was_read_is_not_fetched_again(host: ColdHost) -> None:
    for _ in range(3):
        assert await read(host.root / "file-4") == CONTENTS["file-4"]
    assert len(host.fetched()) == 1


async def test_all_contents_are_right_with_many_readers(host: ColdHost) -> None:
    def read_all() -> dict[str, bytes]:
        return {name: (host.root / name).read_bytes() for name in CONTENTS}

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(8) as pool:
        found = await asyncio.gather(*(loop.run_in_executor(pool, read_all) for _ in range(8)))
    assert all(contents == CONTENTS for contents in found)
    assert sorted(host.fetched()) == sorted({host.digest(name) for name in CONTENTS})


async def test_files_can_be_mapped_and_run(host: ColdHost) -> None:
    def use() -> tuple[bytes, str]:
        with (host.root / "large").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            middle = bytes(view[2**20 : 2**20 + 100])
        return middle, subprocess.run([host.root / "script"], capture_output=True, text=True, check=True).stdout

    middle, output = await asyncio.to_thread(use)
    assert middle == CONTENTS["large"][2**20 : 2**20 + 100]
    assert output == "it runs\n"


async def test_writing_changes_this_root_only(host: ColdHost) -> None:
    def change() -> None:
        with (host.root / "file-1").open("ab") as file:
            file.write(b"more")

    await asyncio.to_thread(change)
    assert await read(host.root / "file-1") == CONTENTS["file-1"] + b"more"
    assert host.objects.read(host.digest("file-1")) == CONTENTS["file-1"]


async def test_the_layer_itself_shows_objects_by_name_and_lists_none(host: ColdHost) -> None:
    assert await asyncio.to_thread(os.listdir, host.lazy) == []
    assert await read(host.lazy_path("file-2")) == CONTENTS["file-2"]
    assert not await asyncio.to_thread((host.lazy / "zz").exists)
    assert not await asyncio.to_thread((host.lazy / "ab" / "short").exists)


async def test_nobody_can_write_to_the_layer(host: ColdHost) -> None:
    with pytest.raises(OSError) as caught:
        await asyncio.to_thread((host.lazy / "ab" / "x").write_bytes, b"x")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("fault", ["truncate", "flip"])
async def test_wrong_bytes_are_an_error_and_never_seen(host: ColdHost, fault: str) -> None:
    host.origin.faults = [fault] * 3
    with pytest.raises(OSError) as caught:
        await read(host.root / "file-5")
    assert caught.value.errno == errno.EIO
    assert await read(host.root / "file-5") == CONTENTS["file-5"], "the next reader finds a mended origin"


async def test_an_object_that_no_longer_exists_anywhere_is_an_error(host: ColdHost) -> None:
    del host.origin.objects[host.digest("file-6")]
    with pytest.raises(OSError):
        await read(host.root / "file-6")


async def test_a_killed_daemon_is_replaced_and_open_files_go_on(host: ColdHost) -> None:
    async with another_process_that_reads(host.root / "large") as read_next:
        assert await read_next() == piece(0)
        for number in range(1, 4):
            await kill_daemon(host.mount)
            assert await read_next() == piece(number)
            assert await read(host.root / "large") == CONTENTS["large"]
            assert await read(host.root / f"file-{number}") == CONTENTS[f"file-{number}"]


async def test_what_a_killed_daemon_was_fetching_is_fetched_by_the_next(host: ColdHost) -> None:
    names = [f"file-{number}" for number in range(20, 26)]
    host.origin.faults = ["hang"] * len(names)
    readers = [asyncio.ensure_future(read(host.root / name)) for name in names]
    while host.origin.faults:
        await asyncio.sleep(0.01)
    os.kill(host.mount.pid, signal.SIGKILL)
    found = await asyncio.wait_for(asyncio.gather(*readers), 20)
    assert found == [CONTENTS[name] for name in names]


async def test_readers_that_wait_when_the_daemon_is_killed_get_right_bytes(host: ColdHost) -> None:
    os.kill(host.mount.pid, signal.SIGSTOP)
    readers = [asyncio.ensure_future(read(host.root / f"file-{number}")) for number in range(10, 16)]
    await asyncio.sleep(0.2)
    assert not any(reader.done() for reader in readers)
    os.kill(host.mount.pid, signal.SIGKILL)
    found = await asyncio.wait_for(asyncio.gather(*readers), 20)
    assert found == [CONTENTS[f"file-{number}"] for number in range(10, 16)]


async def test_a_mount_is_gone_after_its_end(tmp_path: Path, host: ColdHost) -> None:
    from jiffy.fs.lazy_mount import LazyMount

    at = tmp_path / "another"
    at.mkdir()
    mount = LazyMount(at, host.data)
    await mount.start()
    pid = mount.pid
    await mount.stop()
    assert not at.is_mount()
    assert not Path(f"/proc/{pid}").exists()


def piece(number: int) -> bytes:
    return CONTENTS["large"][number * STEP :][:PIECE]


@asynccontextmanager
async def another_process_that_reads(path: Path) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Holds a file open and reads its next piece when asked, each beyond what was read ahead. Not this process: it starts
    the daemon, and a new process waits for the daemon when it closes an open file that it inherited."""
    script = f"""
import sys
with open({str(path)!r}, "rb") as file:
    for number, _ in enumerate(sys.stdin.buffer):
        file.seek(number * {STEP})
        sys.stdout.buffer.write(file.read({PIECE}))
        sys.stdout.flush()
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def read_next() -> bytes:
        stdin.write(b"\n")
        return await asyncio.wait_for(stdout.readexactly(PIECE), 20)

    try:
        yield read_next
    finally:
        stdin.close()
        await process.wait()


async def test_a_profile_is_fetched_before_anybody_reads(host: ColdHost) -> None:
    names = [f"file-{number}" for number in range(12)]
    profile = encode_profile(whole(host.digest(name) for name in names))
    digest = hashlib.sha256(profile).hexdigest()
    host.origin.objects[digest] = profile
    host.mount.tell(Request.PREFETCH, digest, "start")
    async with asyncio.timeout(10):
        while not all(host.objects.has(host.digest(name)) for name in names):
            await asyncio.sleep(0.01)
    assert len(host.origin.requests) <= 5
    assert await read(host.root / "file-3") == CONTENTS["file-3"]
    assert len(host.origin.requests) <= 5


async def test_a_profile_that_is_none_harms_nobody(host: ColdHost) -> None:
    host.mount.tell(Request.PREFETCH, host.digest("file-1"), "start")
    host.mount.tell(Request.PREFETCH, "0" * 64, "another")
    host.mount.tell(Request.CANCEL, start="never begun")
    assert await read(host.root / "file-2") == CONTENTS["file-2"]


async def test_a_daemons_successor_prefetches_too(host: ColdHost) -> None:
    await kill_daemon(host.mount)
    profile = encode_profile(whole([host.digest("file-1")]))
    digest = hashlib.sha256(profile).hexdigest()
    host.origin.objects[digest] = profile
    host.mount.tell(Request.PREFETCH, digest, "start")
    async with asyncio.timeout(10):
        while not host.objects.has(host.digest("file-1")):
            await asyncio.sleep(0.01)


async def test_changing_a_name_or_a_mode_fetches_nothing(host: ColdHost) -> None:
    def change() -> None:
        (host.root / "large").chmod(0o600)
        (host.root / "large").rename(host.root / "renamed")
        os.utime(host.root / "renamed", (1, 1))
        assert (host.root / "renamed").stat().st_size == len(CONTENTS["large"])

    await asyncio.to_thread(change)
    assert host.fetched() == []
    assert await read(host.root / "renamed") == CONTENTS["large"]


async def test_the_layer_tells_the_size_of_what_was_fetched(host: ColdHost) -> None:
    assert (await read(host.lazy_path("file-8"))) == CONTENTS["file-8"]
    assert (await asyncio.to_thread(host.lazy_path("file-8").stat)).st_size == len(CONTENTS["file-8"])


async def test_a_file_found_before_a_daemon_died_is_opened_by_the_next(host: ColdHost) -> None:
    """The kernel remembers the node; the object was never fetched."""
    path = host.lazy_path("file-9")
    assert await asyncio.to_thread(path.exists)
    assert host.fetched() == []
    await kill_daemon(host.mount)
    assert await read(path) == CONTENTS["file-9"]


async def test_a_full_disk_keeps_nobody_from_reading(full_host: ColdHost) -> None:
    for name, data in CONTENTS.items():
        assert await read(full_host.root / name) == data, name
    assert list(full_host.objects.incoming.iterdir()) == []
    assert 0 < len(list(full_host.objects)) < len(CONTENTS) / 2


async def test_a_file_served_from_memory_is_read_by_many_and_mapped(full_host: ColdHost) -> None:
    def use() -> bytes:
        path = full_host.root / "large"
        with (
            path.open("rb") as file,
            path.open("rb") as other,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            return bytes(view[-100:]) + other.read(100)

    expected = CONTENTS["large"][-100:] + CONTENTS["large"][:100]
    assert await asyncio.to_thread(use) == expected


async def test_a_file_served_from_memory_outlives_the_daemon(full_host: ColdHost) -> None:
    async with another_process_that_reads(full_host.root / "large") as read_next:
        assert await read_next() == piece(0)
        await kill_daemon(full_host.mount)
        assert await read_next() == piece(1)


async def test_a_file_opened_before_a_daemon_died_is_not_taken_for_one_opened_since(full_host: ColdHost) -> None:
    """Handles that the kernel holds must not be given out once more."""
    async with another_process_that_reads(full_host.root / "large") as read_next:
        assert await read_next() == piece(0)
        await kill_daemon(full_host.mount)
        with await asyncio.to_thread((full_host.root / "file-29").open, "rb"):
            assert await read_next() == piece(1)


async def test_with_a_catalogue_the_files_beside_are_read_ahead(host: ColdHost) -> None:
    names = sorted(name for name in CONTENTS if name.startswith("file-"))
    catalogue = encode_catalogue([Place(host.digest(name), len(CONTENTS[name]), 0) for name in names])
    digest = hashlib.sha256(catalogue).hexdigest()
    host.origin.objects[digest] = catalogue
    host.mount.tell(Request.CATALOGUE, digest)
    async with asyncio.timeout(10):
        while not host.objects.has(digest):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    for name in names:
        assert await read(host.root / name) == CONTENTS[name]
    assert len(host.origin.requests) < len(names) / 3


async def test_readers_wait_for_an_origin_that_is_away_for_a_while(tmp_path: Path) -> None:
    with serve_origin(dict(OBJECTS)) as origin:
        port = urlparse(origin.url).port
    assert port is not None
    async with cold_host(tmp_path, origin) as host:
        reader = asyncio.ensure_future(read(host.root / "file-4"))
        await asyncio.sleep(1.5)
        assert not reader.done()
        with serve_origin(dict(OBJECTS), port):
            assert await asyncio.wait_for(reader, 20) == CONTENTS["file-4"]


async def test_what_is_dropped_from_the_cache_is_fetched_again(host: ColdHost) -> None:
    """By a root that has never looked for it, and by one that has it open meanwhile."""
    path = host.root / "file-4"

    def use() -> bytes:
        with path.open("rb") as held:
            first = held.read(10)
            host.objects.delete(host.digest("file-4"))
            return first + held.read() + path.read_bytes()

    assert await asyncio.to_thread(use) == CONTENTS["file-4"] * 2
    await asyncio.to_thread(Path("/proc/sys/vm/drop_caches").write_text, "2")
    assert await read(path) == CONTENTS["file-4"]


async def test_a_cache_that_is_emptied_all_the_time_fails_no_reader(host: ColdHost) -> None:
    """Each look-up, fetch and open races with the drop."""
    done = asyncio.Event()

    def drop_all() -> None:
        for digest in host.objects:
            host.objects.delete(digest)

    async def drop() -> None:
        while not done.is_set():
            await asyncio.to_thread(drop_all)

    dropping = asyncio.create_task(drop())
    script = 'for i in $(seq 60); do cat "$@" > /dev/null || exit 1; done; cat "$@" | sha256sum'
    names = [f"file-{number}" for number in range(30)]
    files = [str(host.root / name) for name in names]
    readers = [
        asyncio.to_thread(
            subprocess.run, ["sh", "-c", script, "sh", *files], capture_output=True, text=True, timeout=60
        )
        for _ in range(2)
    ]
    outcomes = await asyncio.gather(*readers)
    done.set()
    await dropping
    expected = hashlib.sha256(b"".join(CONTENTS[name] for name in names)).hexdigest()
    assert [(each.stderr, each.stdout.split()) for each in outcomes] == [("", [expected, "-"])] * 2
