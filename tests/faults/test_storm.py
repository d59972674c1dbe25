"""A thousand inputs while everything is killed at random: each has exactly one output, and it is the right one."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from modal_proto import api_pb2

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


def read(server: ServerUnderTest, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.data.database, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def targets(server: ServerUnderTest) -> list[Target]:
    root = str(server.data.root)
    return [
        Target("servers", lambda: processes_with("jiffy.server", root)),
        Target("workers", lambda: processes_with("jiffy.worker", root)),
        Target("lazy filesystems", lambda: processes_with("jiffy.fs.daemon", root)),
        Target("containers", lambda: container_processes(server.data.containers)),
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


def weather(server: ServerUnderTest, program: ProgramFolder, seed: int, count: Callable[[], int]) -> Storm:
    """A storm of a minute and a half over a thousand inputs that were accepted."""
    outcome = server.run(program(PROGRAM), "--inputs", str(INPUTS), options=["--detach"])
    assert outcome.code == 0, outcome.output
    storm = Storm(targets(server), count, seed)
    storm.rage(90, INPUTS)
    storm.await_all(INPUTS, 240)
    print(storm.describe())
    return storm


@pytest.mark.timeout(600)
def test_each_of_a_thousand_inputs_has_one_output_whatever_is_killed(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    def count() -> int:
        return int(str(read(fresh_server, "SELECT count(*) FROM outputs")[0][0]))

    storm = weather(fresh_server, program, 1, count)
    assert set(storm.kills) == {"servers", "workers", "lazy filesystems", "containers"}
    assert outputs_of(read(fresh_server, "SELECT body FROM outputs")) == [number * 7 for number in range(INPUTS)]
    assert read(fresh_server, "SELECT count(DISTINCT input_id) FROM outputs") == [(INPUTS,)]
