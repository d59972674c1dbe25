"""The benchmarks of the filesystem work; what they measure is nobody's pass or fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest

pytestmark = pytest.mark.root


def run(server: ServerUnderTest, name: str) -> list[dict[str, Any]]:
    outcome = jiffy("bench", "fs", name, "--smoke", "--json", "--data", str(server.data.root), seconds=120)
    assert outcome.code == 0, outcome.output
    assert not (server.data.root / "bench").exists()
    figures: list[dict[str, Any]] = json.loads(outcome.output)[name]["figures"]
    assert all(figure["value"] > 0 and figure["peer_value"] > 0 for figure in figures)
    return figures


def test_a_large_file_is_read_cold_and_cached(server: ServerUnderTest) -> None:
    assert [figure["peer"] for figure in run(server, "throughput")] == [
        "curl, 4 ranges to files",
        "ext4, cached",
    ]


def test_names_are_looked_up_beside_a_plain_copy(server: ServerUnderTest) -> None:
    assert len(run(server, "metadata")) == 4


def test_indexes_are_measured_as_they_grow(server: ServerUnderTest) -> None:
    names = {figure["name"] for figure in run(server, "index")}
    assert {"1000 entries, mount", "3000 entries, bytes of the index"} <= names


def test_the_daemons_memory_is_taken_while_containers_start(server: ServerUnderTest) -> None:
    assert next(iter(run(server, "memory")))["peer_value"] == 100.0


def test_small_objects_are_fetched_in_every_way(server: ServerUnderTest) -> None:
    names = [figure["name"] for figure in run(server, "fetch")]
    assert names == [f"100 objects, {way}" for way in ("one by one, 16 threads", "batches", "boot pack")]


def test_growth_is_measured_beside_the_smallest(server: ServerUnderTest) -> None:
    figures = run(server, "growth")
    assert [figure["x"] for figure in figures] == [1, 10, 100, 1000, 100, 1000]
    assert [figure["ratio"] for figure in figures[::2]] == [1.0] * 3


def test_each_tuning_is_measured_beside_the_one_in_use(server: ServerUnderTest) -> None:
    figures = run(server, "tuning")
    assert {"arrives, threads 1", "is here, plain, read_ahead_kib 128"} <= {figure["name"] for figure in figures}
