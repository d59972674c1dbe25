"""How long it takes until many containers of one image run, launched at once on a warm host; beside the runtime alone on a
plain copy of the same root, as many times. On one host, and divided among several on the same machine."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.copies import make_bundle, unpack
from bench.figures import Figure, Report, Split
from bench.hosts import scratch_directory
from bench.launches import PROGRAM, SECONDS, Launches
from bench.start import find_base, make_base
from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.worker.host import Origin, open_host

CONTAINERS: Final = 100
_HOSTS: Final = 4
_PAUSE: Final = 6.0
"""Before each launch: what the last one left was deleted, and for five seconds ext4 searches past inodes that were freed."""

_REACH: Final = 1.5


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    count = CONTAINERS if samples > 1 else 5
    with scratch_directory(data) as scratch:
        make_base(server, scratch)
        index, layer = asyncio.run(find_base(data))
        objects = LocalObjects(data.objects, data.incoming)
        copy = scratch.root / "copy"
        unpack([Index.from_file(objects.path(index))], objects, copy)
        bundles = [make_bundle(copy, scratch.root / f"peer{number}", PROGRAM) for number in range(count)]
        origin = Origin((server.http_url,), data.token)
        return asyncio.run(_compare(scratch, origin, layer, bundles, samples))


async def _compare(scratch: DataDirectory, origin: Origin, layer: str, bundles: Sequence[Path], samples: int) -> Report:
    launches = Launches()
    async with (
        open_host(scratch, origin, launches.hear, lambda: False) as host,
        _open_hosts(scratch, origin, layer, len(bundles)) as others,
    ):
        launches.host = host
        await launches.measure(layer, 1)  # from here on the host has the files
        ours, spread, peer = [], [], []
        for _ in range(samples):
            await asyncio.sleep(_PAUSE)
            ours.append(await launches.measure(layer, len(bundles)))
            await asyncio.sleep(_PAUSE)
            spread.append(await _launch_on_all(others))
            await asyncio.sleep(_PAUSE)
            peer.append(await _run_copies(bundles))
    name, beside = f"{len(bundles)} containers, launch to all running", f"crun run x {len(bundles)}"
    figures = [
        Figure(name, "ms", ours, beside, peer, _REACH),
        Figure(f"{name}, on {_HOSTS} hosts of this machine", "ms", spread, beside, peer, _REACH),
    ]
    return Report(figures, [Split("one of them", "ms", launches.phases())])


@asynccontextmanager
async def _open_hosts(scratch: DataDirectory, origin: Origin, layer: str, count: int) -> AsyncIterator[list[Process]]:
    """Each has a data directory, a network and a process of its own, and launches its part."""
    hosts = [
        await _open_host(scratch.root / f"host{number}", origin, layer, count // _HOSTS) for number in range(_HOSTS)
    ]
    try:
        for host in hosts:
            await _hear(host, "ready")
        yield hosts
    finally:
        for host in hosts:
            assert host.stdin is not None
            host.stdin.close()
            await host.wait()


async def _open_host(folder: Path, origin: Origin, layer: str, count: int) -> Process:
    (server,) = origin.urls
    options = ("--data", folder, "--server", server, "--token-file", origin.token_file, "--layer", layer)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.launch_host", *map(str, options), "--count", str(max(1, count))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )


async def _launch_on_all(hosts: Sequence[Process]) -> float:
    """Milliseconds until the last of them has all of its containers running."""
    started = time.perf_counter()
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write(b"go\n")
    for host in hosts:
        await _hear(host, "running")
    milliseconds = (time.perf_counter() - started) * 1000
    for host in hosts:
        await _hear(host, "clean")
    return milliseconds


async def _hear(host: Process, word: str) -> None:
    assert host.stdout is not None
    heard = await asyncio.wait_for(host.stdout.readline(), SECONDS)
    if heard.decode().strip() != word:
        raise JiffyError("a host of the benchmark ended", why=f"it did not say {word!r}")


async def _run_copies(bundles: Sequence[Path]) -> float:
    started = time.perf_counter()
    processes = await asyncio.gather(*map(_run_copy, bundles))
    milliseconds = (time.perf_counter() - started) * 1000
    for bundle, process in zip(bundles, processes, strict=True):
        await _crun(bundle, "delete", "--force", bundle.name)
        await process.wait()
        shutil.rmtree(bundle / "state", ignore_errors=True)
    return milliseconds


async def _run_copy(bundle: Path) -> asyncio.subprocess.Process:
    """Until its first byte."""
    process = await _crun_process(bundle, "run", "--bundle", str(bundle), bundle.name)
    assert process.stdout is not None
    if not await asyncio.wait_for(process.stdout.read(1), SECONDS):
        raise JiffyError("crun did not start its container")
    return process


async def _crun(bundle: Path, *words: str) -> None:
    await (await _crun_process(bundle, *words)).wait()


async def _crun_process(bundle: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("crun", "--root", str(bundle / "state"), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
