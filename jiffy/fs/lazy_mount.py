"""Lazy mounts as their user sees them: mounts, and a daemon that is replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.fs.daemon import LEDGERS, Connection
from jiffy.fs.mode import Mode
from jiffy.fs.mount import mount_erofs, mount_fuse, unmount
from jiffy.fs.prefetch import Request, ask
from jiffy.fs.tuning import DEFAULT, Tuning
from jiffy.fs.wire import clone_device
from jiffy.objects.base import Digest
from jiffy.objects.disks import Disks

logger = logging.getLogger(__name__)

_READY_SECONDS: Final = 20.0
_PAGE: Final = 4096


class LazyMount:
    """Serves from start to stop. `at` is where the lazy layer is mounted in layered mode; `sources` are addresses as in
    objects/sources.py."""

    def __init__(
        self,
        at: Path,
        data: DataDirectory,
        sources: Sequence[str] = (),
        token_file: Path | None = None,
        mode: Mode = Mode.LAYERED,
        tuning: Tuning = DEFAULT,
    ) -> None:
        self.mode = mode
        self._tuning = tuning
        self._at = at
        self._objects = data.objects
        self._disks = Disks(data.objects)
        self._has_sources = bool(sources)
        self._arguments = ["--data", str(data.root)]
        if sources:
            self._arguments += ["--sources", *sources]
        if token_file is not None:
            self._arguments += ["--token-file", str(token_file)]
        self._connections: dict[Path, Connection] = {}
        self._handing_over = threading.Lock()
        self._to_daemon: socket.socket | None = None
        self._control, self._daemons_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._daemon: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The daemon that serves now."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def data_layers(self) -> tuple[Path, ...]:
        """Where overlayfs is to look for contents, in order."""
        if self.mode is not Mode.LAYERED:
            return ()
        return (self._objects, *(disk / "objects" for disk in self._disks.roots), self._at)

    async def start(self) -> None:
        """Start the daemon, mount the lazy layer, and return when it answers."""
        await self._spawn()
        self._keeper = asyncio.ensure_future(self._keep_alive())
        if self.mode is Mode.LAYERED:
            try:
                await asyncio.to_thread(self._mount, self._at, "")
            except BaseException:
                await self.stop()
                raise

    def mount_layer(self, digest: Digest, image: Path, at: Path) -> None:
        """Mount the tree of an EROFS image, which is the object of that digest. Blocks; may be called in any thread."""
        if self.mode is Mode.LAYERED:
            mount_erofs(image, at)
        else:
            self._mount(at, digest)

    def unmount_layer(self, at: Path) -> None:
        if self.mode is Mode.LAYERED:
            unmount(at)
        else:
            self._unmount(at)

    def tell(self, request: Request, digest: Digest = "", start: str = "") -> None:
        """Without a source, or when the daemon is too busy, nothing happens."""
        if self._has_sources:
            with contextlib.suppress(BlockingIOError):
                ask(self._control, request, start, digest)

    def announce(
        self, start: str, *, chunk_maps: Iterable[Digest], catalogues: Iterable[Digest], profile: Digest
    ) -> None:
        """Tell what a start will read, as its order has it."""
        for chunk_map in chunk_maps:
            self.tell(Request.CHUNK_MAP, chunk_map)
        for catalogue in catalogues:
            self.tell(Request.CATALOGUE, catalogue)
        if profile:
            self.tell(Request.PREFETCH, profile, start)

    async def stop(self) -> None:
        """End the daemon, then the mounts."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.kill()
            await self._daemon.wait()
        for at in list(self._connections):
            self._unmount(at)
        if self._to_daemon is not None:
            self._to_daemon.close()
        self._control.close()
        self._daemons_end.close()

    def _mount(self, at: Path, tree: Digest) -> None:
        """All descriptors are this process's: the kernel fails the requests that were taken from one that is closed, and
        they must wait for the next daemon instead."""
        first = mount_fuse(at, "jiffy", self._tuning.pages * _PAGE)
        descriptors = [first, *(clone_device(first) for _ in range(self._tuning.threads - 1))]
        ledgers = {name: os.memfd_create(f"jiffy-{name}") for name in LEDGERS}
        connection = Connection(tree, self._tuning, descriptors, ledgers)
        with self._handing_over:
            self._connections[at] = connection
            self._hand_over(connection)
        try:
            _await_answer(at)
        except BaseException:
            self._unmount(at)
            raise
        _set_read_ahead(at, self._tuning.read_ahead_kib)

    def _unmount(self, at: Path) -> None:
        with self._handing_over:
            connection = self._connections.pop(at)
        unmount(at)
        connection.close()

    def _hand_over(self, connection: Connection) -> None:
        """A daemon that is dead is followed by one that is handed everything."""
        assert self._to_daemon is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(self._to_daemon)

    async def _keep_alive(self) -> None:
        while True:
            assert self._daemon is not None
            code = await self._daemon.wait()
            logger.warning("the lazy layer's daemon ended with code %s; starting another", code)
            await self._spawn()

    async def _spawn(self) -> None:
        ours, daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with daemons:
            self._daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jiffy.fs.daemon", *self._arguments),
                *("--control-fd", str(self._daemons_end.fileno()), "--connections-fd", str(daemons.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(self._daemons_end.fileno(), daemons.fileno()),
            )
        self._hand_over_all(ours)

    def _hand_over_all(self, to_daemon: socket.socket) -> None:
        """Not in a thread: all of the loop's own may be waiting for this daemon."""
        with self._handing_over:
            if self._to_daemon is not None:
                self._to_daemon.close()
            self._to_daemon = to_daemon
            for connection in self._connections.values():
                self._hand_over(connection)


def _await_answer(at: Path) -> None:
    """A look at the mount is answered by the daemon; who looks must not wait for ever."""
    answered = threading.Event()

    def look() -> None:
        with contextlib.suppress(OSError):
            (at / "00").exists()
            answered.set()

    threading.Thread(target=look, daemon=True).start()
    if not answered.wait(_READY_SECONDS):
        raise UnavailableError(f"the filesystem at {at} does not answer", why="its daemon hangs, or cannot start")


def _set_read_ahead(at: Path, kibibytes: int) -> None:
    """After the first answer, which sets it too. Where sysfs is not writable the kernel's own value stays."""
    device = at.stat().st_dev
    with contextlib.suppress(OSError):
        bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        bdi.write_text(str(kibibytes))
