"""Sockets with a path: only who may enter its folder can connect."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BACKLOG: Final = 1024


def listen_at(path: Path) -> socket.socket:
    """What an earlier process left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with _short(path) as short:
        listener.bind(short)
    listener.listen(_BACKLOG)
    return listener


async def connect_to(path: Path, name: bytes = b"") -> socket.socket:
    """A connection whose end here has a name, if one is given: the kernel tells it to the listener."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if name:
            connection.bind(name)
        with _short(path) as short:
            await asyncio.get_running_loop().sock_connect(connection, short)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The kernel takes 107 bytes of a socket's path; data directories may lie deeper."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
