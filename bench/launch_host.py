"""`python -m bench.launch_host`: one of several hosts on which containers are launched at once. It says `ready`; for each
line that it reads it launches as many as it was told to, says `running` when all do, and `clean` when they are gone."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from bench.launches import Launches
from jiffy.datadir import DataDirectory
from jiffy.worker.host import Origin, open_host


async def _serve(data: DataDirectory, origin: Origin, layer: str, count: int) -> None:
    launches = Launches()
    async with open_host(data, origin, launches.hear, lambda: False) as host:
        launches.host = host
        await launches.measure(layer, 1)  # from here on the host has the files
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            await launches.measure(layer, count, lambda: print("running", flush=True))
            print("clean", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--layer", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    data = DataDirectory(options.data)
    data.create()
    asyncio.run(_serve(data, Origin((options.server,), options.token_file), options.layer, options.count))


if __name__ == "__main__":
    main()
