"""Calls and maps of Ray and of Dask on this machine, for comparison: they have neither containers nor anything that outlives
them.

    python -m bench.peers ray CALLS INPUTS    prints milliseconds of each call and of the map, as JSON
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final


def _number(number: int) -> int:
    return number


def _measure(call: Callable[[], object], map_all: Callable[[], object], calls: int) -> dict[str, Any]:
    for _ in range(20):
        call()
    times = [_timed(call) for _ in range(calls)]
    return {"calls": times, "map": _timed(map_all)}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def measure_ray(calls: int, inputs: int) -> dict[str, Any]:
    ray = import_module("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    task = ray.remote(_number)
    try:
        return _measure(
            lambda: ray.get(task.remote(1)),
            lambda: ray.get([task.remote(number) for number in range(inputs)]),
            calls,
        )
    finally:
        ray.shutdown()


def measure_dask(calls: int, inputs: int) -> dict[str, Any]:
    distributed = import_module("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        return _measure(
            lambda: client.submit(_number, 1, pure=False).result(),
            lambda: client.gather(client.map(_number, range(inputs), pure=False)),
            calls,
        )


PEERS: Final = {"ray": measure_ray, "dask": measure_dask}


def main() -> None:
    name, calls, inputs = sys.argv[1:]
    print(json.dumps(PEERS[name](int(calls), int(inputs))))


if __name__ == "__main__":
    main()
