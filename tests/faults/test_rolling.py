"""Everything is restarted in turn under a constant load of calls, as for an upgrade: no call fails, and none waits long."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.cli.running import find_server
from jiffy.errors import UnavailableError
from tests.conftest import ProgramFolder
from tests.faults.storms import processes_with
from tests.hosts import GATEWAY, Host, Hosts, open_hosts
from tests.servers import ServerUnderTest, free_port

LOAD = """
    import threading, time
    import modal

    app = modal.App("load", image=modal.Image.debian_slim())

    @app.function(cpu=0.1, memory=128, scaledown_window=20, max_containers=4)
    def work(number: int) -> int:
        time.sleep(0.1)
        return number * 7

    def call(until: float, first: int, slowest: list) -> None:
        number = first
        while time.time() < until:
            began = time.monotonic()
            assert work.remote(number) == number * 7
            slowest.append(time.monotonic() - began)
            number += 4

    @app.local_entrypoint()
    def main(seconds: float):
        assert work.remote(1) == 7
        print("under load")
        times, failures = [], []
        threading.excepthook = lambda what: failures.append(what.exc_value)
        callers = [threading.Thread(target=call, args=(time.time() + seconds, n, times)) for n in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        print(f"{len(times)} calls, {len(failures)} failed, slowest {max(times):.1f} s {failures}")
"""


@pytest.fixture
def hosts(disk_folder: Path) -> Iterator[Hosts]:
    with open_hosts(disk_folder / "rolling") as opened:
        yield opened


def test_a_rolling_restart_fails_no_call(
    unstarted_server: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    server = unstarted_server
    server.start("--no-worker", "--gate", f"{GATEWAY}:{free_port()}")
    options = server.join_arguments()
    first, second = hosts.add(), hosts.add()
    for host in (first, second):
        host.start_worker(*options)
    await_workers(server, 2)
    run = server.begin(program(LOAD), "--seconds", "40")
    run.await_line("under load")
    restart_server(server)
    for host in (first, second):
        restart_worker(server, host, options)
    restart_server(server)
    restart_gate(server)
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    told = re.search(r"(\d+) calls, (\d+) failed, slowest ([\d.]+) s", outcome.output)
    assert told is not None, outcome.output
    print(told[0])
    assert int(told[2]) == 0, outcome.output
    assert int(told[1]) > 100, "it stood still most of the time"


def look(server: ServerUnderTest) -> tuple[int, int]:
    """The process that answers, and how many workers it has; 0 and 0 while none does."""
    try:
        found = find_server(server.data)
    except UnavailableError:
        return 0, 0
    return found.pid, found.workers


def await_workers(server: ServerUnderTest, number: int, other_than: int = 0) -> None:
    """Of a process that answers, which is another one than that of before."""
    deadline = time.monotonic() + 30
    while (seen := look(server))[1] != number or seen[0] in (0, other_than):
        assert time.monotonic() < deadline, f"process {seen[0]} has {seen[1]} workers"
        time.sleep(0.05)


def restart_server(server: ServerUnderTest) -> None:
    """The process that answers ends in good order, and `jiffy serve` starts the next."""
    before = server.serving_pid
    os.kill(before, signal.SIGTERM)
    await_workers(server, 2, other_than=before)


def restart_gate(server: ServerUnderTest) -> None:
    (gate,) = processes_with("jiffy.server.gate", str(server.data.root))
    os.kill(gate, signal.SIGKILL)
    time.sleep(1)
    await_workers(server, 2)


def restart_worker(server: ServerUnderTest, host: Host, options: list[str]) -> None:
    assert host.stop_worker() == 0, host.log.read_text()
    await_workers(server, 1)
    host.start_worker(*options)
    await_workers(server, 2)
