"""Programs that read, run where the mounts of the caller are, and time themselves: what starting them takes is left out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

_READ_FILE = """
import json, sys, time
path, times = sys.argv[1], int(sys.argv[2])
buffer = bytearray(2**20)
found = []
with open(path, "rb", buffering=0) as file:
    for _ in range(times):
        file.seek(0)
        started = time.perf_counter()
        while file.readinto(buffer):
            pass
        found.append(time.perf_counter() - started)
print(json.dumps(found))
"""
_STORM = """
import json, os, sys, time
root, times = sys.argv[1], int(sys.argv[2])
paths = [root + path for path in json.load(sys.stdin)]
stats, opens = [], []
for _ in range(times):
    started = time.perf_counter()
    for path in paths:
        os.stat(path)
    stats.append(time.perf_counter() - started)
    started = time.perf_counter()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.read(file, 4096)
        os.close(file)
    opens.append(time.perf_counter() - started)
print(json.dumps([stats, opens]))
"""


async def read_file(path: Path, times: int) -> list[float]:
    """Seconds of each reading of a file, by one process that has it open."""
    return [float(each) for each in json.loads(await _run(_READ_FILE, str(path), str(times)))]


async def storm(root: Path, paths: Sequence[str], times: int) -> tuple[list[float], list[float]]:
    """Seconds of each round of stats, and of opens with a first read, of files below a root."""
    stats, opens = json.loads(await _run(_STORM, str(root), str(times), given=json.dumps(paths)))
    return list(map(float, stats)), list(map(float, opens))


async def _run(program: str, *arguments: str, given: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(given.encode())
    if process.returncode != 0:
        raise RuntimeError(f"the program that reads ended with {process.returncode}")
    return output.decode()
