"""One holder a lock, known by its pid, and none after its death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jiffy.errors import ConflictError
from jiffy.locks import hold_lock, lock_holder


def test_the_holder_is_known_while_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert lock_holder(path) is None
    with hold_lock(path, "server"):
        assert lock_holder(path) == os.getpid()
    assert lock_holder(path) is None


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    refused = pytest.raises(ConflictError, match=f"process {os.getpid()}")
    with hold_lock(path, "server"), refused, hold_lock(path, "server"):
        pass


def test_a_killed_holder_holds_no_more(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    script = f"""
import sys
from pathlib import Path
from jiffy.locks import hold_lock
with hold_lock(Path({str(path)!r}), "server"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert lock_holder(path) == holder.pid
        holder.send_signal(signal.SIGKILL)
    assert lock_holder(path) is None
