"""Where a runtime delivers the terminal that it makes in a container for a process there: our end comes by a socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final, Self

from jiffy.errors import JiffyError
from jiffy.unix_sockets import listen_at

_NAME: Final = "console"
_SECONDS: Final = 1.0


class Console:
    """In a folder, while it is entered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._listener = listen_at(self._folder / _NAME)
        self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        os.close(self._descriptor)

    @property
    def path(self) -> str:
        """For the runtime; runc takes 107 bytes of a path."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}/{_NAME}"

    def take(self) -> int:
        """What was delivered: ask when the runtime is done."""
        self._listener.settimeout(_SECONDS)
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_SECONDS)
                _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        except OSError as error:
            raise JiffyError("the runtime delivered no terminal", why=str(error)) from error
        if not descriptors:
            raise JiffyError("the runtime delivered no terminal")
        return descriptors[0]
