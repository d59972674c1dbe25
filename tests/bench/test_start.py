"""The benchmark works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_starts_are_measured_beside_the_runtime_alone(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "start", "--smoke", "--json", "--data", str(server.data.root))
    assert outcome.code == 0, outcome.output
    report = json.loads(outcome.output)["start"]
    names = {figure["name"] for figure in report["figures"]}
    assert {"warm start, first instruction", "cold start, first instruction", "modal run, warm"} <= names
    assert all(figure["value"] > 0 and figure["peer_value"] > 0 for figure in report["figures"])
    for split in report["splits"]:
        assert list(split["phases"]) == ["index", "mount", "network", "runtime", "first byte"]
    assert not (server.data.root / "bench").exists()
