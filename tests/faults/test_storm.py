"""A thousand inputs while everything is killed at random: each has exactly one output, and it is the right one."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence

import pytest
from modal_proto import api_pb2

from jiffy.datadir import DataDirectory
from tests.companies import Company
from tests.conftest import ProgramFolder
from tests.faults.storms import Storm, Target, container_processes, processes_with
from tests.servers import ServerUnderTest

INPUTS = 1000
PROGRAM = """
    import time
    import modal

    app = modal.App("storm", image=modal.Image.debian_slim())

    @app.function(max_containers=8, cpu=0.1, memory=128)
    def work(number: int) -> int:
        time.sleep(0.2 + number % 5 / 10)
        return number * 7

    @app.local_entrypoint()
    def main(inputs: int):
        work.spawn_map(range(inputs))
        print("all are accepted")
"""


def targets(datas: Sequence[DataDirectory]) -> list[Target]:
    """What runs on data directories."""

    def find(*words: str) -> list[int]:
        return [pid for data in datas for pid in processes_with(*words, str(data.root))]

    return [
        Target("servers", lambda: find("jiffy.server")),
        Target("workers", lambda: find("jiffy.worker") + find("jiffy", "worker")),
        Target("lazy filesystems", lambda: find("jiffy.fs.daemon")),
        Target("containers", lambda: [pid for data in datas for pid in container_processes(data.containers)]),
    ]


def outputs_of(rows: list[tuple[object, ...]]) -> list[int]:
    """What each input gave, sorted. Fails with what went wrong if one failed."""
    given = []
    for (body,) in rows:
        assert isinstance(body, bytes)
        result = api_pb2.FunctionGetOutputsItem.FromString(body).result
        assert result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, result.exception
        given.append(pickle.loads(result.data))
    return sorted(given)


def weather(storm: Storm, server: ServerUnderTest, program: ProgramFolder) -> None:
    """A storm of a minute over a thousand inputs that were accepted."""
    outcome = server.run(program(PROGRAM), "--inputs", str(INPUTS), options=["--detach"])
    assert outcome.code == 0, outcome.output
    storm.rage(60, INPUTS)
    storm.await_all(INPUTS, 240)
    print(storm.describe())


@pytest.mark.timeout(600)
def test_each_of_a_thousand_inputs_has_one_output_whatever_is_killed(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    def count() -> int:
        return int(fresh_server.rows("SELECT count(*) FROM outputs")[0][0])

    storm = Storm(targets([fresh_server.data]), count, seed=1)
    weather(storm, fresh_server, program)
    assert set(storm.kills) == {"servers", "workers", "lazy filesystems", "containers"}
    assert outputs_of(fresh_server.rows("SELECT body FROM outputs")) == [number * 7 for number in range(INPUTS)]
    assert fresh_server.rows("SELECT count(DISTINCT input_id) FROM outputs") == [(INPUTS,)]


@pytest.mark.timeout(600)
def test_with_three_servers_and_four_workers_on_hosts_of_their_own(company: Company, program: ProgramFolder) -> None:
    for _ in range(3):
        company.add_server()
    for _ in range(4):
        company.add_worker("--cpus", "0.2", kept=True)
    company.await_workers(4)

    def count() -> int:
        return int(company.rows("SELECT count(*) FROM outputs")[0][0])

    datas = [host.data for host in (*company.hosts, *company.workers)]
    storm = Storm([*targets(datas), Target("gates", lambda: gates(datas))], count, seed=1)
    weather(storm, company.follower(), program)
    assert set(storm.kills) == {"servers", "gates", "workers", "lazy filesystems", "containers"}
    assert outputs_of(company.rows("SELECT body FROM outputs")) == [number * 7 for number in range(INPUTS)]
    assert company.rows("SELECT count(DISTINCT input_id) FROM outputs") == [(INPUTS,)]


def gates(datas: Iterable[DataDirectory]) -> list[int]:
    return [pid for data in datas for pid in processes_with("jiffy.server.gate", str(data.root))]
