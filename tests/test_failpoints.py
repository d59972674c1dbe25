"""Who reaches an armed place dies there, once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from jiffy.failpoints import VARIABLE

REACH = "from jiffy import failpoints; failpoints.reach('app-created'); print('on')"


def reach(folder: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {} if folder is None else {VARIABLE: str(folder)}
    return subprocess.run([sys.executable, "-c", REACH], capture_output=True, text=True, env=environment, check=False)


def test_an_armed_place_kills_whoever_comes_first(tmp_path: Path) -> None:
    (tmp_path / "app-created").touch()
    assert reach(tmp_path).returncode == -signal.SIGKILL
    assert reach(tmp_path).stdout == "on\n"


def test_a_place_that_is_not_armed_is_passed(tmp_path: Path) -> None:
    (tmp_path / "app-stopped").touch()
    for folder in (tmp_path, None):
        assert reach(folder).stdout == "on\n"
