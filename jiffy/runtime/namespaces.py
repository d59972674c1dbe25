"""Network namespaces without names: each lives as long as its descriptor, so none outlives this process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from jiffy.errors import JiffyError, UnavailableError

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NetworkNamespace:
    """A namespace of its own. While this process lives, `descriptor` leads to it; `path` does for others of the host."""

    def __init__(self, *, forwards: bool = False) -> None:
        self.descriptor = _create(forwards)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        os.close(self.descriptor)

    async def configure(self, lines: list[str]) -> None:
        """Run `ip` commands inside."""
        await run(*self._enter("ip", "-batch", "-"), text="\n".join(lines))

    async def filter(self, rules: str) -> None:
        """Load nft rules inside."""
        await run(*self._enter("nft", "-f", "-"), text=rules)

    def listen(self, host: str, port: int) -> socket.socket:
        """A TCP listener inside: a socket belongs to the namespace in which it was made."""
        return self.inside(lambda: socket.create_server((host, port), backlog=1024))

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in a thread that enters the namespace and ends."""

        def enter() -> T:
            if _LIBC.setns(self.descriptor, _CLONE_NEWNET) != 0:
                raise JiffyError(f"cannot enter {self.path}", why=os.strerror(ctypes.get_errno()))
            return work()

        return _in_thread(enter)

    def _enter(self, *command: str) -> tuple[str, ...]:
        return ("nsenter", f"--net={self.path}", *command)


async def run(*command: str, text: str = "") -> str:
    """Run a program to its end; gives its output. JiffyError with its own words when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed", hint="`jiffy doctor` tells what is missing") from None
    output, errors = await process.communicate(text.encode())
    if process.returncode != 0:
        raise JiffyError(f"{' '.join(command[:3])} failed", why=errors.decode(errors="replace").strip()[:500])
    return output.decode()


def _create(forwards: bool) -> int:
    """A thread enters a new namespace, opens it, and ends: this process itself stays where it is."""
    return _in_thread(lambda: _unshare_and_open(forwards))


def _unshare_and_open(forwards: bool) -> int:
    if _LIBC.unshare(_CLONE_NEWNET) != 0:
        raise JiffyError("cannot make a network namespace", why=os.strerror(ctypes.get_errno()))
    if forwards:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
