"""The sockets in the data directory on which a server answers containers of workers elsewhere: the gate connects there.

Which container speaks is told by the name to which the gate binds its end: the kernel passes that on, and only who may
enter the data directory can connect.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import UnauthenticatedError
from jiffy.tunnels import Preface

SERVICES: Final = ("grpc", "http")
_BACKLOG: Final = 1024
_MARK: Final = "\0jiffy"


def listen_for_gate(data: DataDirectory, service: str) -> socket.socket:
    """For `grpc` or `http`; what an earlier server left there is replaced."""
    data.container_socket(service).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with _short_path(data, service) as path:
        listener.bind(path)
    listener.listen(_BACKLOG)
    return listener


async def connect_as(data: DataDirectory, preface: Preface, serial: int) -> socket.socket:
    """A connection of which the server knows who speaks. `serial` is another one each time."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.bind(_name(preface, serial))
        with _short_path(data, preface.service) as path:
            await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def read_name(name: bytes) -> tuple[str, str, int]:
    """The worker, the container's address on its bridge, and where that reaches the server by HTTP."""
    try:
        mark, worker_id, address, http_port, _ = name.decode().split("/")
        if mark != _MARK:
            raise ValueError(mark)
        return worker_id, address, int(http_port)
    except ValueError as error:
        raise UnauthenticatedError("nobody says which container speaks") from error


def _name(preface: Preface, serial: int) -> bytes:
    return f"{_MARK}/{preface.worker_id}/{preface.address}/{preface.http_port}/{serial}".encode()


@contextmanager
def _short_path(data: DataDirectory, service: str) -> Iterator[str]:
    """The kernel takes 107 bytes of a socket's path; data directories may lie deeper."""
    folder = os.open(data.root, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{data.container_socket(service).name}"
    finally:
        os.close(folder)
