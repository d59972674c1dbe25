"""Records what a start reads: the objects behind the files that are opened in a root, in the order of their first opening.

fanotify tells of every open in the root's overlay, whoever opens and wherever the content comes from. A file's object is
known from the redirect that its layer's image has for overlayfs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jiffy.errors import UnsupportedError
from jiffy.image.erofs import REDIRECT
from jiffy.objects.base import Digest
from jiffy.objects.profile import MOST_OBJECTS

_EVENT: Final = struct.Struct("<IBBHQii")
_BUFFER: Final = 64 * 1024

_FAN_CLOEXEC: Final = 1
_FAN_NONBLOCK: Final = 2
_FAN_UNLIMITED_QUEUE: Final = 0x10
_FAN_MARK_ADD: Final = 1
_FAN_MARK_FILESYSTEM: Final = 0x100
_FAN_OPEN: Final = 0x20
_AT_FDCWD: Final = -100


class Recorder:
    """Records what is opened below `root`, an overlay of `layers` (topmost first), until it is closed, or has seen as many
    paths as a profile may hold."""

    def __init__(self, root: Path, layers: Sequence[Path]) -> None:
        self._root = os.fsencode(root)
        self._layers = layers
        self._objects: dict[Digest, None] = {}
        self._paths: set[bytes] = set()
        self._descriptor = _watch(root)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> tuple[Digest, ...]:
        """End, and give the objects in order."""
        while self._descriptor >= 0 and self._read():
            pass
        self._stop()
        return tuple(self._objects)

    def _stop(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> bool:
        """Take some events; False when there were none."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return False
        position = 0
        while position < len(data):
            length, _, _, _, _, descriptor, _ = _EVENT.unpack_from(data, position)
            position += length
            if descriptor >= 0:
                self._note(_path_of(descriptor))
                os.close(descriptor)
        if len(self._paths) >= MOST_OBJECTS:
            self._stop()
        return True

    def _note(self, path: bytes) -> None:
        """The container's own name space has its root at /; from outside the path leads through the mount."""
        path = path.removeprefix(b"(unreachable)").removeprefix(self._root)
        if path in self._paths:
            return
        self._paths.add(path)
        if (digest := self._find(path)) is not None:
            self._objects.setdefault(digest)

    def _find(self, path: bytes) -> Digest | None:
        for layer in self._layers:
            try:
                redirect = os.getxattr(os.fsencode(layer) + path, REDIRECT, follow_symlinks=False)
            except OSError:
                continue
            return redirect.decode().replace("/", "")
        return None


def _path_of(descriptor: int) -> bytes:
    return os.fsencode(Path(f"/proc/self/fd/{descriptor}").readlink())


def _watch(root: Path) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    flags = _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_UNLIMITED_QUEUE
    descriptor = int(library.fanotify_init(flags, os.O_RDONLY | os.O_LARGEFILE | os.O_CLOEXEC))
    if descriptor < 0:
        raise UnsupportedError("cannot record what is read", why=os.strerror(ctypes.get_errno()))
    mark = _FAN_MARK_ADD | _FAN_MARK_FILESYSTEM
    if library.fanotify_mark(descriptor, mark, ctypes.c_uint64(_FAN_OPEN), _AT_FDCWD, os.fsencode(root)) < 0:
        error = os.strerror(ctypes.get_errno())
        os.close(descriptor)
        raise UnsupportedError(f"cannot record what is read in {root}", why=error)
    return descriptor
