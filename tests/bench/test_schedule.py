"""The benchmark of the scheduler works; its figures are not judged here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.servers import JIFFY


def test_it_measures_without_a_server_and_without_root(tmp_path: Path) -> None:
    command = [*JIFFY, "bench", "schedule", "--smoke", "--json", "--data", str(tmp_path)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(outcome.stdout)["schedule"]["figures"]
    assert {figure["peer"] for figure in figures} == {"the reach", "first fit", "at random"}
    assert all(figure["value"] > 0 for figure in figures)
