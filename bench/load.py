"""Requests to an address by so many at once, for so long.

python -m bench.load URL HOST CONCURRENCY SECONDS    prints milliseconds of each request, as JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp


async def measure(url: str, host: str, concurrency: int, seconds: float) -> dict[str, Any]:
    times: list[float] = []
    failures = 0
    end = time.perf_counter() + seconds

    async def ask_on(session: aiohttp.ClientSession) -> None:
        nonlocal failures
        while (started := time.perf_counter()) < end:
            async with session.get(url, headers={"Host": host}) as answer:
                await answer.read()
                failures += answer.status != 200
            times.append((time.perf_counter() - started) * 1000)

    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(ask_on(session) for _ in range(concurrency)))
        elapsed = time.perf_counter() - begun
    return {"times": times, "failures": failures, "seconds": elapsed}


def main() -> None:
    url, host, concurrency, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(url, host, int(concurrency), float(seconds)))))


if __name__ == "__main__":
    main()
