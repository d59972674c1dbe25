"""A fleet of machines that are network namespaces: real workers come when there is no room, and go when they are idle."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jiffy.locks import lock_holder
from tests.bases import make_base, share_images
from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.hosts import open_hosts
from tests.inventory import await_nothing_about
from tests.servers import ServerUnderTest, free_port

FLEET = """
provider = "local"
maximum = 2
idle_seconds = 3
orphan_seconds = 8

[[offer]]
name = "little"
cpus = 0.5
memory = "1GiB"
price = 0.1

[[offer]]
name = "big"
cpus = 2
memory = "4GiB"
price = 1
labels = ["size=big"]
"""
WORK = """
    import time
    import modal

    app = modal.App("work", image=modal.Image.debian_slim())

    @app.function(cpu=CPU, memory=128)
    def work(seconds: float) -> int:
        print("working")
        time.sleep(seconds)
        return 7

    @app.local_entrypoint()
    def main(calls: int = 1, seconds: float = 0.0):
        assert list(work.map([seconds] * calls)) == [7] * calls
        print("all is well")
"""


class FleetUnderTest:
    """A server on a host of its own, without a worker, that may start machines there."""

    def __init__(self, server: ServerUnderTest, folder: Path) -> None:
        self.server = server
        self.seen = 0
        self._options = ("--no-worker", "--gate", f"0.0.0.0:{free_port()}", "--fleet", str(folder / "fleet.toml"))
        (folder / "fleet.toml").write_text(FLEET)

    def start(self) -> None:
        self.server.start(*self._options)

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(jiffy("fleet", "--json", "--data", str(self.server.data.root)).output)
        return told

    def machines(self, *states: str) -> list[dict[str, Any]]:
        """Those since the test began, in these states; without any, all."""
        machines = self.told()["machines"][self.seen :]
        return [machine for machine in machines if not states or machine["state"] in states]

    def await_machines(self, number: int, *states: str, timeout: float = 30) -> None:
        self._await(lambda: len(self.machines(*states)) == number, timeout)

    def folder(self, machine_id: str) -> Path:
        return self.server.data.root / "fleet" / machine_id

    def worker_of(self, machine_id: str) -> int:
        return int((self.folder(machine_id) / "worker.lock").read_text())

    def await_no_machine(self) -> None:
        locks = list((self.server.data.root / "fleet").glob("*/worker.lock"))
        deadline = time.monotonic() + 60
        while any(lock_holder(lock) is not None for lock in locks):
            assert time.monotonic() < deadline, "a machine lives on"
            time.sleep(0.2)

    def _await(self, holds: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.2)


@pytest.fixture(scope="module")
def opened(
    server: ServerUnderTest, disk_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FleetUnderTest]:
    folder = tmp_path_factory.mktemp("fleet")
    make_base(server, folder)
    with open_hosts(disk_folder / "fleet") as hosts:
        host = hosts.add()
        own = ServerUnderTest(host.data.root, folder, host.address, host.enter)
        share_images(server, own)
        opened = FleetUnderTest(own, folder)
        opened.start()
        yield opened
        own.stop()
        opened.await_no_machine()
        assert await_nothing_about(str(host.data.root)) == []


@pytest.fixture
def fleet(opened: FleetUnderTest) -> FleetUnderTest:
    """Without a machine; those that earlier tests had are over."""
    opened.await_machines(0, "starting", "busy", "idle")
    opened.seen = len(opened.told()["machines"])
    return opened


def test_machines_come_with_what_is_wanted_and_go_when_they_are_idle(
    fleet: FleetUnderTest, program: ProgramFolder
) -> None:
    assert fleet.machines() == []
    outcome = fleet.server.run(program(WORK.replace("CPU", "0.4")), "--calls", "2", "--seconds", "3")
    assert outcome.code == 0, outcome.output
    assert "is there yet" in outcome.words, "nobody was told why it takes so long"
    assert {machine["offer"] for machine in fleet.machines()} == {"little"}
    fleet.await_machines(0, "starting", "busy", "idle")
    assert 1 <= len(fleet.machines()) <= 2
    assert all(machine["reason"] == "it was idle for 3 s" for machine in fleet.machines())
    assert 0 < fleet.told()["spent_today"] < 1
    assert "little" in jiffy("fleet", "--data", str(fleet.server.data.root)).output


def test_what_no_little_machine_can_take_gets_a_big_one(fleet: FleetUnderTest, program: ProgramFolder) -> None:
    outcome = fleet.server.run(program(WORK.replace("CPU", "1.5")))
    assert outcome.code == 0, outcome.output
    assert [machine["offer"] for machine in fleet.machines()] == ["big"]


def test_what_no_machine_can_take_is_refused(fleet: FleetUnderTest, program: ProgramFolder) -> None:
    run = fleet.server.begin(program(WORK.replace("CPU", "64")), "--seconds", "1")
    line = run.await_line("waits")
    assert "no worker" in line
    run.interrupt()
    run.finish()
    assert fleet.machines() == []


def test_a_machine_that_is_taken_away_is_replaced_and_its_work_done(
    fleet: FleetUnderTest, program: ProgramFolder
) -> None:
    run = fleet.server.begin(program(WORK.replace("CPU", "0.4")), "--seconds", "5")
    run.await_line("working")
    (machine,) = fleet.machines("busy")
    os.kill(fleet.worker_of(machine["machine_id"]), signal.SIGKILL)
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert next(each["reason"] for each in fleet.machines()) == "it is gone"
    assert len(fleet.machines()) == 2


def test_a_server_that_is_killed_goes_on_with_its_machines(fleet: FleetUnderTest, program: ProgramFolder) -> None:
    run = fleet.server.begin(program(WORK.replace("CPU", "0.4")), "--seconds", "6")
    run.await_line("working")
    fleet.server.kill()
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("working") == 1, "it ran again"
    assert len(fleet.machines()) == 1


def test_without_a_server_machines_end_by_themselves(fleet: FleetUnderTest, program: ProgramFolder) -> None:
    assert fleet.server.run(program(WORK.replace("CPU", "0.4"))).code == 0
    fleet.server.stop()
    fleet.await_no_machine()
    fleet.start()
    fleet.await_machines(0, "starting", "busy", "idle")
    assert [machine["reason"] for machine in fleet.machines()] == ["it is gone"]


@pytest.mark.root
def test_a_fleet_that_is_described_wrongly_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET.replace('"local"', '"moon"'))
    options = ("--no-worker", "--fleet", str(tmp_path / "fleet.toml"))
    for more, words in (((), "--fleet needs a --gate"), (("--gate", "127.0.0.1:1"), "describes no fleet: provider")):
        refused = jiffy("serve", "--data", str(tmp_path / "data"), *options, *more)
        assert refused.code == 1
        assert words in refused.words
