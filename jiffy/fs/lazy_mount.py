"""The lazy layer as its user sees it: a mount, and a daemon that is replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.fs.mount import mount_fuse, unmount
from jiffy.fs.prefetch import Request, ask
from jiffy.fs.wire import clone_device
from jiffy.objects.base import Digest

logger = logging.getLogger(__name__)

_READY_SECONDS: Final = 10.0
_READ_AHEAD_KIB: Final = 1024
_THREADS: Final = 16
"""Descriptors of the daemon, one a thread. All are this process's: the kernel fails the requests that were taken from one
that is closed, and they must wait for the next daemon instead."""


class LazyMount:
    """Mounted at `at` from start to stop. `sources` are addresses as in objects/sources.py."""

    def __init__(
        self, at: Path, data: DataDirectory, sources: Sequence[str] = (), token_file: Path | None = None
    ) -> None:
        self._at = at
        self._has_sources = bool(sources)
        self._arguments = ["--data", str(data.root)]
        if sources:
            self._arguments += ["--sources", *sources]
        if token_file is not None:
            self._arguments += ["--token-file", str(token_file)]
        self._descriptors: list[int] = []
        self._ledgers: dict[str, int] = {}
        self._control, self._daemons_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._daemon: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The daemon that serves now."""
        assert self._daemon is not None
        return self._daemon.pid

    async def start(self) -> None:
        """Mount, start the daemon, and return when it answers."""
        first = mount_fuse(self._at, "jiffy")
        self._descriptors = [first, *(clone_device(first) for _ in range(_THREADS - 1))]
        self._ledgers = {name: os.memfd_create(f"jiffy-{name}") for name in ("backings", "nodes", "opens")}
        await self._spawn()
        try:
            await asyncio.wait_for(asyncio.to_thread(os.stat, self._at / "00"), _READY_SECONDS)
        except (OSError, TimeoutError) as error:
            await self.stop()
            raise UnavailableError("the lazy layer does not answer", why=str(error) or "it hangs") from error
        self._set_read_ahead()
        self._keeper = asyncio.ensure_future(self._keep_alive())

    def tell(self, request: Request, digest: Digest = "", start: str = "") -> None:
        """Without a source, or when the daemon is too busy, nothing happens."""
        if self._has_sources:
            with contextlib.suppress(BlockingIOError):
                ask(self._control, request, start, digest)

    async def stop(self) -> None:
        """End the daemon, then the mount."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.kill()
            await self._daemon.wait()
        for descriptor in (*self._descriptors, *self._ledgers.values()):
            os.close(descriptor)
        self._control.close()
        self._daemons_end.close()
        unmount(self._at)

    def _set_read_ahead(self) -> None:
        """After the first answer, which sets it too. Where sysfs is not writable the kernel's own value stays."""
        device = self._at.stat().st_dev
        with contextlib.suppress(OSError):
            bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
            bdi.write_text(str(_READ_AHEAD_KIB))

    async def _keep_alive(self) -> None:
        while True:
            assert self._daemon is not None
            code = await self._daemon.wait()
            logger.warning("the lazy layer's daemon ended with code %s; starting another", code)
            await self._spawn("--successor")

    async def _spawn(self, *options: str) -> None:
        self._daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jiffy.fs.lazy", "--fuse-fds", *map(str, self._descriptors)),
            *(word for name, ledger in self._ledgers.items() for word in (f"--{name}-fd", str(ledger))),
            *("--control-fd", str(self._daemons_end.fileno())),
            *(*self._arguments, *options),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(*self._descriptors, *self._ledgers.values(), self._daemons_end.fileno()),
        )
