"""Sessions are killed whole, however fast they fork."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator

import pytest

from jiffy.runtime import cgroups
from jiffy.runtime.sessions import kill_session

pytestmark = pytest.mark.root

CHAINS = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sys.stdin.readline()
for _ in range(300):
    if os.fork() == 0:
        signal.pause()
for _ in range(8):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
print("forks", flush=True)
signal.pause()
"""
"""Processes that live only until they have forked the next, and many that are found before them."""


@pytest.fixture
async def group() -> AsyncIterator[str]:
    name = "jiffy-test04"
    for hierarchy in hierarchies():
        (cgroups.ROOT / hierarchy / name).mkdir()
    yield name
    await cgroups.remove_group(name)


def hierarchies() -> list[str]:
    return ["."] if cgroups.find_layout() is cgroups.Layout.V2 else ["freezer", "pids"]


async def begin(group: str, source: str) -> Process:
    """A Python program in the group, in a session of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    for hierarchy in hierarchies():
        (cgroups.ROOT / hierarchy / group / "cgroup.procs").write_text(str(process.pid))
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"begin\n")
    assert await process.stdout.readline()
    return process


async def test_what_forks_as_fast_as_it_can_does_not_escape(group: str) -> None:
    process = await begin(group, CHAINS)
    await asyncio.sleep(0.2)
    await kill_session(process.pid, group)
    assert cgroups.processes(group) == set()
    assert await process.wait() == -9


async def test_other_sessions_in_the_group_go_on(group: str) -> None:
    other = await begin(group, "print(input(), flush=True); print(input())")
    process = await begin(group, CHAINS)
    await kill_session(process.pid, group)
    assert cgroups.processes(group) == {other.pid}
    out, _ = await other.communicate(b"still here\n")
    assert (out, other.returncode) == (b"still here\n", 0)
    assert await process.wait() == -9


async def test_a_session_that_is_gone_is_nothing_to_kill(group: str) -> None:
    await kill_session(os.getsid(0), group)
