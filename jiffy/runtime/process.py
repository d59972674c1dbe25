"""Processes that become children of this one when the runtime that started them is gone.

`crun run --detach` starts a container from a helper that has left the runtime's session. The helper may outlive the
runtime's own process for a moment, so a container that ends at once ends as the helper's child, not ours; and the helper
itself becomes ours, to be reaped by nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_ADOPTION_SECONDS: Final = 5.0
_ADOPTION_STEP_SECONDS: Final = 0.002
_UNKNOWN_EXIT: Final = 255
_awaited: Final[set[int]] = set()
"""Processes that somebody waits for."""

_libc = ctypes.CDLL(None, use_errno=True)


class Process:
    """The first process of a container, a child of this one or about to become one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.pidfd_open(pid)
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._descriptor, self._end)
        _awaited.add(pid)

    async def wait(self) -> int:
        """The exit code, 128+N for signal N, 255 when another process took it."""
        return await asyncio.shield(self._exit)

    def signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if not self._exit.done():
            os.kill(self.pid, number)

    def _end(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._reap(self._loop.time() + _ADOPTION_SECONDS)

    def _reap(self, deadline: float) -> None:
        with contextlib.suppress(ChildProcessError):
            reaped, status = os.waitpid(self.pid, os.WNOHANG)
            if reaped == self.pid:
                _awaited.discard(self.pid)
                code = os.waitstatus_to_exitcode(status)
                self._exit.set_result(128 - code if code < 0 else code)
                return
        if self._loop.time() < deadline and Path(f"/proc/{self.pid}").exists():
            self._loop.call_later(_ADOPTION_STEP_SECONDS, self._reap, deadline)
        else:
            _awaited.discard(self.pid)
            self._exit.set_result(_UNKNOWN_EXIT)


def adopt_orphans(adopt: bool = True) -> None:
    """Become the parent of descendants whose own parent ends, or be so no longer."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def end_with_parent() -> None:
    """Of a process that was just forked: it is told to end when its parent ends, however that does."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def reap_helpers() -> None:
    """Reap what runtimes left behind: children that ended outside this process's session, are no container's first, and that
    nobody waits for. Call it while no runtime starts any. One that had joined a container keeps that from ending."""
    session = str(os.getsid(0))
    for pid in _children():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ChildProcessError):
            status = _status(pid)
            if (
                status["State"].startswith("Z")
                and status["NSpid"].split()[1:] != ["1"]
                and pid not in _awaited
                and status["NSsid"].split()[0] != session
            ):
                os.waitpid(pid, os.WNOHANG)


def _children() -> Iterator[int]:
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, children.read_text().split())


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
