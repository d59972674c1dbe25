"""Processes whose parent ended: adopted, waited for and reaped, whatever the order in which they and their parents end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.runtime.process import Process, adopt_orphans, reap_helpers


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    adopt_orphans()
    yield
    adopt_orphans(False)


def fork_orphan(helper_seconds: float, child_seconds: float, child_code: int) -> tuple[int, int]:
    """As a detaching runtime does: a helper in a session of its own, whose parent is gone, starts a child that ends with a
    code. The pids of the helper and the child."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            child = os.fork()
            if child == 0:
                time.sleep(child_seconds)
                os._exit(child_code)
            os.write(writer, f"{os.getpid()} {child}".encode())
            time.sleep(helper_seconds)
        os._exit(0)
    os.waitpid(middle, 0)
    helper, child = map(int, os.read(reader, 64).split())
    os.close(reader)
    os.close(writer)
    return helper, child


def wait_and_reap(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        reap_helpers()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("helper_seconds", "child_seconds"), [(0.0, 0.1), (0.3, 0.0)], ids=["helper first", "child first"]
)
async def test_an_exit_code_is_known_whoever_ends_first(helper_seconds: float, child_seconds: float) -> None:
    helper, child = fork_orphan(helper_seconds, child_seconds, 7)
    assert await Process(child).wait() == 7
    wait_and_reap(helper)


async def test_a_signal_shows_in_the_exit_code() -> None:
    helper, child = fork_orphan(0.0, 60.0, 0)
    wait_and_reap(helper)
    process = Process(child)
    process.signal(signal.SIGKILL)
    assert await process.wait() == 128 + signal.SIGKILL


def test_a_child_of_our_own_session_is_left_to_its_waiter() -> None:
    child = os.fork()
    if child == 0:
        os._exit(3)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    reap_helpers()
    assert os.waitpid(child, 0)[1] >> 8 == 3
