"""The benchmark works; what it measures is nobody's pass or fail."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_a_cold_import_is_measured_with_and_without_a_profile(server: ServerUnderTest) -> None:
    outcome = jiffy("bench", "fs", "coldstart", "--smoke", "--json", "--data", str(server.data.root), seconds=250)
    assert outcome.code == 0, outcome.output
    figures = {figure["name"]: figure for figure in json.loads(outcome.output)["coldstart"]["figures"]}
    fetched = figures["round trip 2 ms, profile, fetched"]
    assert 0 < fetched["value"] < fetched["peer_value"], "less was fetched than the image has"
    kinds = ("nothing known", "profile", "boot pack")
    assert {"warm", *(f"round trip 2 ms, {kind}" for kind in kinds)} <= set(figures)
