"""The benchmark of an idle server works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_memory_and_processor_of_each_process_are_measured(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "idle", "--smoke", "--json", "--data", str(server.data.root), seconds=180)
    assert outcome.code == 0, outcome.output
    measured = json.loads(outcome.output)["idle"]
    assert measured["figures"][0]["value"] > 10
    assert {"jiffy.server", "jiffy.worker", "jiffy.fs.daemon"} <= set(measured["splits"][0]["phases"])
    assert not (server.data.root / "bench").exists()
