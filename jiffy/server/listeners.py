"""The sockets on which a server accepts. Others own them, so that they outlive a server that is killed: whoever connects
meanwhile waits for the next one.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.files import replace_file

_SYS_PIDFD_GETFD: Final = 438
_PR_SET_PDEATHSIG: Final = 1
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where a server accepts gRPC, and where HTTP."""

    grpc: socket.socket
    http: socket.socket

    @property
    def url(self) -> str:
        return _url(self.grpc)

    @property
    def http_url(self) -> str:
        return _url(self.http)

    @property
    def http_port(self) -> int:
        return int(self.http.getsockname()[1])


def open_listener(host: str, port: int, option: str = "--port") -> socket.socket:
    """A TCP listener; UnavailableError, with the option to change, when the address is taken."""
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}", why=os.strerror(error.errno or 0), hint=f"choose another with {option}"
        ) from error


def borrow_listener(process: int, descriptor: int) -> socket.socket:
    """Another process's listener, which stays open there when it is closed here."""
    try:
        target = os.pidfd_open(process)
    except OSError as error:
        raise UnavailableError(f"process {process} is gone", why=error.strerror or "") from error
    try:
        borrowed = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, target, descriptor, 0)
        if borrowed < 0:
            raise UnavailableError(
                f"cannot use the sockets of process {process}",
                why=os.strerror(ctypes.get_errno()),
                hint="run the server as the user that runs the worker",
            )
    finally:
        os.close(target)
    return socket.socket(fileno=borrowed)


def end_with_owner() -> None:
    """Have this process end with its parent, which owns its listeners: nobody else would start a successor on them."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def publish_address(data: DataDirectory, listeners: Listeners, leader: str | None = None) -> None:
    """Tell local commands, workers and the gate where the server is, and where the one that leads, if it is another: empty
    while none does."""
    description = {
        "url": listeners.url,
        "http_url": listeners.http_url,
        "pid": os.getpid(),
        "started_at": time.time(),
    }
    replace_file(data.address, json.dumps(description if leader is None else {**description, "leader": leader}))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
