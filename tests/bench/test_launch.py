"""The benchmark works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_containers_launched_at_once_are_measured_beside_the_runtime_alone(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "launch", "--smoke", "--json", "--data", str(server.data.root), seconds=120)
    assert outcome.code == 0, outcome.output
    figures = json.loads(outcome.output)["launch"]["figures"]
    assert len(figures) == 2
    for figure in figures:
        assert figure["peer"] == "crun run x 5"
        assert figure["value"] > 0 and figure["peer_value"] > 0
    assert not (server.data.root / "bench").exists()
