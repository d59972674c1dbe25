"""How fast a large file is read: again, from the cache; and for the first time, from an object server, verified.

Beside the first: the same file on the host's own disk, cached. Beside the second: curl, which fetches the same bytes from
the same server in four ranges at once, to files on the same disk. Both begin with a disk that has room in the page cache.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report, Split
from bench.hosts import PAUSE, forget_objects, open_starts, scratch_directory
from bench.reading import read_file
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.fs.prefetch import Request
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.base import Digest
from jiffy.objects.chunks import encode_chunk_map, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.worker.host import Origin

_SIZE: Final = 512 * 2**20
_SMOKE_SIZE: Final = 16 * 2**20
_CURLS: Final = 4
_REACH_FIRST: Final = 0.7
_REACH_AGAIN: Final = 0.95
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    size = _SIZE if samples > 1 else _SMOKE_SIZE
    with scratch_directory(data) as scratch:
        file = scratch.root / "file"
        digest = put_random(file, objects, size)
        layer, chunk_map = make_image(objects, digest, size)
        try:
            origin = Origin((server.http_url,), data.token)
            shares = _Shares(server.pid)
            turns = [asyncio.run(_take_turn(scratch, origin, layer, chunk_map, file, shares)) for _ in range(samples)]
            raw = [_fetch_raw(scratch, server, digest, size) for _ in range(samples)]
        finally:
            for each in (digest, layer, chunk_map):
                objects.delete(each)
    mebibytes = size / 2**20
    cold, again, plain = ([mebibytes / seconds for seconds in column] for column in zip(*turns, strict=True))
    name = f"{mebibytes:g} MiB"
    return Report(
        [
            Figure(
                f"{name}, first read",
                "MiB/s",
                cold,
                "curl, 4 ranges to files",
                [mebibytes / each for each in raw],
                _REACH_FIRST,
            ),
            Figure(f"{name}, read by another root", "MiB/s", again, "ext4, cached", plain, _REACH_AGAIN),
        ],
        [Split("first read, share of all processor time", "%", shares.found)],
    )


class _Shares:
    """Percent of what all cores could do, by who did it, while a block lasts."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.found: dict[str, list[float]] = {}

    @contextmanager
    def measure(self, daemon: int) -> Iterator[None]:
        pids = {"server": self._server, "daemon": daemon}
        started, before = time.perf_counter(), {name: _ticks(pid) for name, pid in pids.items()}
        reader = resource.getrusage(resource.RUSAGE_CHILDREN)
        yield
        capacity = (time.perf_counter() - started) * (os.cpu_count() or 1) / 100
        for name, pid in pids.items():
            user, system = (after - ticks for after, ticks in zip(_ticks(pid), before[name], strict=True))
            self._add(f"{name}, its own code", user / capacity)
            self._add(f"{name}, in the kernel", system / capacity)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - reader.ru_utime - reader.ru_stime
        self._add("reader", used / capacity)

    def _add(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)


def _ticks(pid: int) -> tuple[float, float]:
    """Seconds of a process in its own code and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


async def _take_turn(
    scratch: DataDirectory, origin: Origin, layer: Digest, chunk_map: Digest, file: Path, shares: _Shares
) -> tuple[float, float, float]:
    """Seconds: cold, by the next root, and of the plain file."""
    forget_objects(scratch)
    for aside in scratch.root.glob("forgotten-*"):
        shutil.rmtree(aside)
    await asyncio.sleep(PAUSE)
    async with open_starts(scratch, origin) as starts:
        assert starts.host is not None
        starts.host.lazy.tell(Request.CHUNK_MAP, chunk_map)
        found: list[float] = []
        for name in ("first", "second"):
            await starts.host.roots.prepare([layer])
            root = await starts.host.roots.mount(name, [layer])
            if name == "first":
                with shares.measure(starts.host.lazy.pid):
                    found += await read_file(root.path / "file", 1)
            else:
                found += await read_file(root.path / "file", 1)
            await starts.host.roots.remove(root)
        plain = await read_file(file, 2)
        return found[0], found[1], plain[1]


def put_random(file: Path, objects: LocalObjects, size: int) -> Digest:
    with file.open("wb") as plain, objects.writer() as writer:
        for _ in range(size // 2**20):
            chunk = os.urandom(2**20)
            plain.write(chunk)
            writer.write(chunk)
        return writer.publish()[0]


def make_image(objects: LocalObjects, digest: Digest, size: int) -> tuple[Digest, Digest]:
    """A layer with one file, and its chunk map."""
    file = Entry(b"/file", Kind.FILE, 0o644, size=size, digest=digest)
    index = Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), file]))
    with objects.writer() as writer:
        write_erofs(index, writer)
        layer, _ = writer.publish()
    chunk_list = objects.put(list_chunks(objects.path(digest)).encode())
    return layer, objects.put(encode_chunk_map([(digest, chunk_list)]))


def _fetch_raw(scratch: DataDirectory, server: RunningServer, digest: Digest, size: int) -> float:
    time.sleep(PAUSE)
    step = -(-size // _CURLS)
    token = f"Authorization: Bearer {server.token_id}:{server.token_secret}"
    url = f"{server.http_url}/objects/{digest}"
    targets = [scratch.root / f"raw-{number}" for number in range(_CURLS)]
    started = time.perf_counter()
    curls = [
        subprocess.Popen(["curl", "-s", "-o", str(target), "-H", token, "-r", f"{start}-{start + step - 1}", url])
        for target, start in zip(targets, range(0, size, step), strict=True)
    ]
    codes = [curl.wait() for curl in curls]
    seconds = time.perf_counter() - started
    for target in targets:
        target.unlink()
    if any(codes):
        raise JiffyError("curl failed", why=f"it ended with {codes}")
    return seconds
