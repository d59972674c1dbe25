"""How fast small objects come from an object server: one by one, by a batch, by a boot pack; verified and published.

Beside each: curl, which fetches the same objects by 32 requests at once into files, and verifies nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report
from bench.hosts import PAUSE, forget_objects, scratch_directory
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import JiffyError
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.pack import write_pack
from jiffy.objects.profile import whole
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

_OBJECTS: Final = 2000
_SMOKE_OBJECTS: Final = 100
_SIZES: Final = (1_000, 12_000, 70_000)
_AT_ONCE: Final = 32


def run(data: DataDirectory, samples: int) -> Report:
    """Needs a server that runs on the data directory."""
    server = find_server(data)
    objects = LocalObjects(data.objects, data.incoming)
    count = _OBJECTS if samples > 1 else _SMOKE_OBJECTS
    with objects.batch() as batch:
        digests = [batch.put(os.urandom(_SIZES[number % len(_SIZES)])) for number in range(count)]
    pack = write_pack(whole(digests), objects)
    cancelled = threading.Event()
    ways: dict[str, Callable[[Tiers], object]] = {
        "one by one, 16 threads": lambda tiers: _ensure_all(tiers, digests),
        "batches": lambda tiers: tiers.prefetch(digests, cancelled),
        "boot pack": lambda tiers: tiers.prefetch_pack(pack, cancelled),
    }
    try:
        with scratch_directory(data) as scratch:
            found: dict[str, list[float]] = {}
            for _ in range(samples):
                for name, fetch in ways.items():
                    found.setdefault(name, []).append(count / _time_fetch(scratch, server, data.token, count, fetch))
                found.setdefault("curl", []).append(count / _time_curl(scratch.root, server, digests))
    finally:
        for digest in (*digests, pack.data):
            objects.delete(digest)
    return Report(
        [Figure(f"{count} objects, {name}", "/s", found[name], "curl, 32 at once", found["curl"]) for name in ways]
    )


def _time_fetch(
    scratch: DataDirectory, server: RunningServer, token: Path, count: int, fetch: Callable[[Tiers], object]
) -> float:
    forget_objects(scratch)
    time.sleep(PAUSE)
    local = LocalObjects(scratch.objects, scratch.incoming, durable=False)
    tiers = Tiers(local, open_sources([server.http_url], read_token(token)))
    started = time.perf_counter()
    fetch(tiers)
    seconds = time.perf_counter() - started
    if len(list(local)) != count:
        raise JiffyError("not all objects came", why=f"{len(list(local))} of {count}")
    return seconds


def _ensure_all(tiers: Tiers, digests: Sequence[Digest]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(tiers.ensure, digests))


def _time_curl(folder: Path, server: RunningServer, digests: Sequence[Digest]) -> float:
    target = folder / "curl"
    target.mkdir()
    lines = [f'url = "{server.http_url}/objects/{digest}"\noutput = "{target / digest}"' for digest in digests]
    (folder / "curl.conf").write_text("\n".join(lines))
    token = f"Authorization: Bearer {server.token_id}:{server.token_secret}"
    command = [
        "curl",
        "-s",
        "-H",
        token,
        "--parallel",
        "--parallel-max",
        str(_AT_ONCE),
        "-K",
        str(folder / "curl.conf"),
    ]
    time.sleep(PAUSE)
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    shutil.move(target, folder / f"forgotten-curl-{time.monotonic_ns()}")
    return seconds
