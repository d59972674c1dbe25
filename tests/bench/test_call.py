"""The benchmark of calls works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_calls_are_measured_beside_the_client_and_the_entrypoint_alone(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "call", "--smoke", "--json", "--data", str(server.data.root), seconds=180)
    assert outcome.code == 0, outcome.output
    figures = {figure["name"]: figure for figure in json.loads(outcome.output)["call"]["figures"]}
    assert figures["warm call, median"]["value"] > 0
    assert figures["warm call, median"]["peer"] == "the client and the entrypoint alone"
    assert figures["server's processor, warm call"]["value"] > 0
    assert "map of 50 inputs, together" in figures
    recorded = figures["call at a server that only records it, median"]
    assert recorded["value"] > 0
    assert figures["server's processor, call at a server that only records it"]["value"] > 0
    assert not (server.data.root / "bench").exists()
