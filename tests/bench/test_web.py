"""The benchmark of web endpoints works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_requests_are_measured_beside_uvicorn_alone(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "web", "--smoke", "--json", "--data", str(server.data.root), seconds=180)
    assert outcome.code == 0, outcome.output
    figures = {figure["name"]: figure for figure in json.loads(outcome.output)["web"]["figures"]}
    assert figures["requests, 64 at once"]["value"] > 0
    assert figures["requests, 64 at once"]["peer"] == "uvicorn alone"
    assert not (server.data.root / "bench").exists()
