"""Where the server listens: on the loopback for clients, and on the bridge of each worker of this host for containers.

A worker's bridge is in a network namespace of its own. A socket belongs to the namespace in which it was made, so a
thread enters it, makes the sockets, and ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from jiffy.errors import UnavailableError

_CLONE_NEWNET: Final = 0x40000000


def open_socket(host: str, port: int) -> socket.socket:
    """A TCP socket bound to an address; port 0 takes a free one. UnavailableError when it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}", why=os.strerror(error.errno or 0), hint="choose another with --port"
        ) from error
    listener.setblocking(False)
    return listener


async def open_socket_in(namespace: str, host: str, port: int) -> socket.socket:
    """The same inside a network namespace, given by a path such as /proc/PID/fd/N."""

    def work() -> socket.socket:
        _enter_network_namespace(namespace)
        return open_socket(host, port)

    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def _enter_network_namespace(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise UnavailableError(f"cannot enter {path}", why=os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
