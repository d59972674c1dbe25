"""Workers on hosts of their own: they join by a token, run what others would, and leave without losing anything."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from jiffy.cli.running import find_server
from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.hosts import Host, Hosts
from tests.servers import ServerUnderTest

WHERE = """
    import time
    import modal

    app = modal.App("where", image=modal.Image.debian_slim())

    @app.function(cpu=CPU)
    def work(seconds: float, data: bytes) -> tuple[str, bytes]:
        import modal
        print("working")
        time.sleep(seconds)
        return modal.current_input_id(), data[::-1]

    @app.local_entrypoint()
    def main(calls: int = 1, seconds: float = 0.0, size: int = 10):
        data = bytes(range(256)) * (size // 256 + 1)
        for _, back in work.map([seconds] * calls, [data] * calls):
            assert back == data[::-1]
        print("all is well")
"""


def join(server: ServerUnderTest, host: Host, *options: str) -> None:
    """Start a worker there, and wait for it."""
    before = find_server(server.data).workers
    host.start_worker(*server.join_arguments(), *options)
    server.await_workers(before + 1)


def launched(host: Host) -> int:
    return host.log.read_text().count("is launched")


def test_large_inputs_and_outputs_go_to_a_worker_elsewhere_and_back(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    join(gated, hosts.add())
    outcome = gated.run(program(WHERE.replace("CPU", "0.1")), "--calls", "3", "--size", "5000000")
    assert outcome.code == 0, outcome.output
    assert "all is well" in outcome.output


def test_containers_spread_over_all_hosts_that_joined(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    here = [hosts.add(), hosts.add()]
    for host in here:
        join(gated, host, "--cpus", "1", "--label", "zone=test")
    outcome = gated.run(program(WHERE.replace("CPU", "0.6")), "--calls", "2", "--seconds", "4")
    assert outcome.code == 0, outcome.output
    assert all(launched(host) for host in here)


def test_a_worker_that_is_told_to_end_lets_what_runs_finish(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    first = hosts.add()
    join(gated, first)
    run = gated.begin(program(WHERE.replace("CPU", "0.1")), "--seconds", "6")
    run.await_line("working")
    second = hosts.add()
    join(gated, second)
    assert first.stop_worker() == 0
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("working") == 1, "it ran again"
    assert launched(second) == 0


def test_what_does_not_finish_in_time_runs_again_elsewhere(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    first, second = hosts.add(), hosts.add()
    join(gated, first, "--drain-seconds", "1")
    run = gated.begin(program(WHERE.replace("CPU", "0.1")), "--seconds", "15")
    run.await_line("working")
    join(gated, second)
    assert first.stop_worker() == 0
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("working") == 2
    assert launched(second) == 1


def test_a_host_that_is_cut_off_is_replaced_and_comes_back(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder
) -> None:
    first, second = hosts.add(), hosts.add()
    join(gated, first)
    run = gated.begin(program(WHERE.replace("CPU", "0.1")), "--seconds", "10")
    run.await_line("working")
    join(gated, second)
    first.part()
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert launched(second) == 1
    assert find_server(gated.data).workers == 1
    first.join()
    gated.await_workers(2)


def test_a_worker_says_why_it_is_not_taken(gated: ServerUnderTest, hosts: Hosts) -> None:
    host = hosts.add()
    arguments = gated.join_arguments()
    token_id = arguments[-1].partition(":")[0]
    assert jiffy("token", "revoke", token_id, "--data", str(gated.data.root)).code == 0
    host.start_worker(*arguments)
    assert host.worker is not None
    assert host.worker.wait(60) == 1
    assert "refused the token" in host.log.read_text()

    stranger = arguments[-1].rpartition(":")[0] + ":" + "0" * 64
    host.start_worker(*arguments[:-1], stranger)
    assert host.worker.wait(60) == 1
    assert "is not the server that issued the token" in host.log.read_text()


def test_tokens_of_workers_are_listed_and_open_nothing_else(gated: ServerUnderTest) -> None:
    arguments = gated.join_arguments()
    token_id, secret, _ = arguments[-1].split(":")
    listed = json.loads(jiffy("token", "list", "--json", "--data", str(gated.data.root)).output)
    assert {token["token_id"]: token["kind"] for token in listed}[token_id] == "worker"
    url = find_server(gated.data).http_url
    for path, status in (("/objects/" + "0" * 64, "404"), ("/tokens", "401"), ("/images", "401")):
        command = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            f"Authorization: Bearer {token_id}:{secret}",
        ]
        assert subprocess.run([*command, url + path], capture_output=True, text=True, check=True).stdout == status


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server", "host:9902", "--token", "a:b:c"], "host:9902 is no address of a server"),
        (["--server", "https://host:9902", "--token", "a:b"], "this is no token of a worker"),
        (["--server", "https://host:9902"], "this machine has no token of the server"),
        (["--server", "https://host:9902", "--token", "a:b:c"], "is no address of a server"),
    ],
)
def test_a_worker_says_what_is_wrong_with_its_options(tmp_path: Path, options: list[str], words: str) -> None:
    refused = jiffy("worker", "--data", str(tmp_path), *options)
    assert refused.code == 1
    assert words in refused.words
