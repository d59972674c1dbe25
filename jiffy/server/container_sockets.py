"""The sockets in the data directory on which a server answers containers of workers elsewhere: the gate connects there.

Which container speaks is told by the name to which the gate binds its end: the kernel passes that on, and only who may
enter the data directory can connect.
"""

from __future__ import annotations

import socket
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import UnauthenticatedError
from jiffy.tunnels import Preface
from jiffy.unix_sockets import connect_to

SERVICES: Final = ("grpc", "http")
_MARK: Final = "\0jiffy"


async def connect_as(data: DataDirectory, preface: Preface, serial: int) -> socket.socket:
    """A connection of which the server knows who speaks. `serial` is another one each time."""
    name = f"{_MARK}/{preface.worker_id}/{preface.address}/{preface.http_port}/{serial}"
    return await connect_to(data.container_socket(preface.service), name.encode())


def read_name(name: bytes) -> tuple[str, str, int]:
    """The worker, the container's address on its bridge, and where that reaches the server by HTTP."""
    try:
        mark, worker_id, address, http_port, _ = name.decode().split("/")
        if mark != _MARK:
            raise ValueError(mark)
        return worker_id, address, int(http_port)
    except ValueError as error:
        raise UnauthenticatedError("nobody says which container speaks") from error
