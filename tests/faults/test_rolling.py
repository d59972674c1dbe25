"""Everything is restarted in turn under a constant load of calls, as for an upgrade: no call fails, and none waits long."""

from __future__ import annotations

import os
import re
import signal
import time

from tests.conftest import ProgramFolder
from tests.faults.storms import processes_with
from tests.hosts import Host, Hosts
from tests.servers import ServerUnderTest

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


def test_a_rolling_restart_fails_no_call(gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder) -> None:
    server = gated
    options = server.join_arguments()
    first, second = hosts.add(), hosts.add()
    for host in (first, second):
        host.start_worker(*options)
    server.await_workers(2)
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


def restart_server(server: ServerUnderTest) -> None:
    """The process that answers ends in good order, and `jiffy serve` starts the next."""
    before = server.serving_pid
    os.kill(before, signal.SIGTERM)
    server.await_workers(2, other_than=before)


def restart_gate(server: ServerUnderTest) -> None:
    (gate,) = processes_with("jiffy.server.gate", str(server.data.root))
    os.kill(gate, signal.SIGKILL)
    time.sleep(1)
    server.await_workers(2)


def restart_worker(server: ServerUnderTest, host: Host, options: list[str]) -> None:
    assert host.stop_worker() == 0, host.log.read_text()
    server.await_workers(1)
    host.start_worker(*options)
    server.await_workers(2)
