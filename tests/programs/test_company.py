"""Several servers on one database: programs use any of them, and do not notice when one ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_commands import jiffy
from tests.companies import Company
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

WORK = """
    import time
    import modal

    app = modal.App("work", image=modal.Image.debian_slim())

    @app.function(cpu=0.1)
    def work(seconds: float, data: bytes) -> bytes:
        print("working")
        time.sleep(seconds)
        return data[::-1]

    @app.local_entrypoint()
    def main(calls: int = 1, seconds: float = 0.0, size: int = 10):
        data = bytes(range(256)) * (size // 256 + 1)
        for back in work.map([seconds] * calls, [data] * calls):
            assert back == data[::-1]
        print("all is well")
"""


@pytest.fixture(scope="module")
def three(company: Company) -> Company:
    """Three servers and a worker. Each test leaves them as they were, whoever leads then."""
    for _ in range(3):
        company.add_server()
    company.add_worker()
    company.await_workers(1)
    return company


def test_programs_run_at_every_server(three: Company, program: ProgramFolder) -> None:
    for server in three.servers:
        outcome = server.run(program(WORK), "--calls", "10")
        assert outcome.code == 0, outcome.output
        assert "all is well" in outcome.output
        assert "working" in outcome.output, "what containers print is not heard here"


def test_large_inputs_and_outputs_pass_through_a_server_that_does_not_lead(
    three: Company, program: ProgramFolder
) -> None:
    outcome = three.follower().run(program(WORK), "--calls", "3", "--size", "5000000")
    assert outcome.code == 0, outcome.output


def test_a_program_goes_on_when_the_leader_is_killed_and_when_its_host_is_lost(
    three: Company, program: ProgramFolder
) -> None:
    """Killed, it comes back and leads again; when its host is lost, another one leads."""
    leader, before = three.leader(), outputs(three)
    run = three.follower().begin(program(WORK), "--calls", "100", "--seconds", "1")
    run.await_line("working")
    leader.kill()
    time.sleep(3)
    assert three.leader() is leader
    three.host_of(leader).part()
    time.sleep(4)
    assert three.leader() is not leader
    three.host_of(leader).join()
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert "all is well" in outcome.output
    assert outputs(three) == before + 100


def test_a_leader_that_was_stopped_for_a_while_does_no_harm(three: Company, program: ProgramFolder) -> None:
    leader, before = three.leader(), outputs(three)
    run = three.follower().begin(program(WORK), "--calls", "100", "--seconds", "0.5")
    run.await_line("working")
    stopped = leader.serving_pid
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(6)
    assert three.leader() is not leader
    os.kill(stopped, signal.SIGCONT)
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert outputs(three) == before + 100
    leader.await_workers(0, other_than=stopped)
    assert leader.run(program(WORK)).code == 0, "it serves beside the other"


def test_a_server_that_stops_is_succeeded_at_once(three: Company, program: ProgramFolder) -> None:
    leader = three.leader()
    run = three.follower().begin(program(WORK), "--calls", "100", "--seconds", "0.3")
    run.await_line("working")
    began = time.monotonic()
    stop(leader)
    assert three.leader() is not leader
    assert time.monotonic() - began < 15
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    three.start_server(leader)
    assert leader.run(program(WORK)).code == 0


def test_a_client_that_knows_a_name_of_several_goes_on_with_another(
    three: Company, program: ProgramFolder, tmp_path: Path
) -> None:
    leader, other = three.leader(), three.follower()
    python = with_hosts(tmp_path, "jiffy.test", [leader.host, other.host])
    address = f"http://jiffy.test:{three.port}"
    arguments = ("--calls", "60", "--seconds", "0.5")
    run = leader.begin(program(WORK), *arguments, python=python, MODAL_SERVER_URL=address)
    run.await_line("working")
    stop(leader)
    outcome = run.finish()
    three.start_server(leader)
    assert outcome.code == 0, outcome.output
    assert "all is well" in outcome.output


def with_hosts(folder: Path, name: str, addresses: list[str]) -> str:
    """A Python for which a name has these addresses."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for address in addresses))
    python = folder / "python"
    bind = f'mount --bind {hosts} /etc/hosts && exec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{bind}' sh \"$@\"\n")
    python.chmod(0o755)
    return str(python)


def test_commands_and_tokens_work_at_every_server(three: Company) -> None:
    server = three.follower()
    for command in (("token", "list", "--json"), ("image", "list", "--json")):
        told = jiffy(*command, "--data", str(server.data.root))
        assert told.code == 0, told.output
        assert told.output.startswith("[")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--no-worker",), "--shared is for servers on a database"),
        (("--no-worker", "--store", "postgresql://h/d"), "--shared needs a --gate"),
        (("--no-worker", "--store", "postgresql://h/d", "--gate", "0.0.0.0:1"), "--shared needs a --gate"),
        (("--store", "postgresql://h/d", "--gate", "10.0.0.1:1"), "--shared needs --no-worker"),
    ],
)
@pytest.mark.root
def test_servers_that_are_to_share_say_what_they_lack(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    refused = jiffy("serve", "--data", str(tmp_path / "data"), "--shared", str(tmp_path / "shared"), *options)
    assert refused.code == 1
    assert words in refused.words
    assert not (tmp_path / "shared").exists()


def outputs(company: Company) -> int:
    return int(company.rows("SELECT count(*) FROM outputs")[0][0])


def stop(server: ServerUnderTest) -> None:
    assert jiffy("stop", "--data", str(server.data.root)).code == 0
