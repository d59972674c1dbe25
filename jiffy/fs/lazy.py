"""The lazy layer: a FUSE filesystem in which every object of the origin is a file, named by its hash.

Overlayfs looks here only for an object that the host's own directory lacks, when a file that needs it is opened or changed.
A look-up finds whatever has the form of a digest; an open fetches, verifies and publishes the object, and passes reads
through to the published file. Whoever comes later finds the object in the directory, and never asks here.

The daemon runs in a process of its own (`python -m jiffy.fs.lazy`) on descriptors that its parent keeps: when it dies,
the next one goes on with the same mount. Files that the dead one had opened are still passed through by the kernel, which
then refuses any other backing for them; ledgers, kept by the parent too, tell the next daemon which backing each has, and
which object each node is.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import ExhaustedError, JiffyError, NotFoundError
from jiffy.fs import wire
from jiffy.fs.contents import Content, FileContent, PartialContent
from jiffy.fs.ledger import BackingLedger, NodeLedger, OpenLedger
from jiffy.fs.prefetch import Prefetches
from jiffy.fs.wire import Operation, Request
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import Partials
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

_PATIENCE: Final = 90.0
"""Seconds for which readers wait for sources that are away, until they get an error."""

_OPEN_TRIES: Final = 3
_FOREVER: Final = 86400 * 365
_ROOT: Final = 1
_FIRST_FOLDER: Final = 2
_FIRST_OBJECT: Final = _FIRST_FOLDER + 256
_FOLDER_NAME: Final = re.compile(rb"[0-9a-f]{2}")
_OBJECT_NAME: Final = re.compile(rb"[0-9a-f]{62}")


@dataclass(slots=True)
class _Backing:
    """A file that the kernel reads through while it is open. Who inherits one cannot know when it may be closed."""

    identifier: int
    opens: int = 0
    inherited: bool = False


class LazyLayer:
    """Answers the requests of one mount. `descriptor` is that of the connection."""

    def __init__(
        self,
        tiers: Tiers,
        partials: Partials,
        descriptor: int,
        backings: BackingLedger,
        nodes: NodeLedger,
        opens: OpenLedger,
    ) -> None:
        self._tiers = tiers
        self._partials = partials
        self._descriptor = descriptor
        self._ledger = backings
        self._nodes = nodes
        self._opens = opens
        self._opening: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self._unsized: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._backings = {node: _Backing(backing, inherited=True) for node, backing in backings.read().items()}
        self._handles: dict[int, tuple[int, Content | None]] = {}
        self._next_handle = 1
        self._passthrough = True

    def serve(self, descriptor: int) -> None:
        """Answer requests until the mount is gone."""
        buffer = bytearray(wire.REQUEST_SIZE)
        while True:
            try:
                request = wire.read_request(descriptor, buffer)
                self._answer(descriptor, request)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno not in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    raise

    def _answer(self, descriptor: int, request: Request) -> None:
        if request.operation in (Operation.FORGET, Operation.BATCH_FORGET, Operation.INTERRUPT):
            return
        if request.operation == Operation.RELEASE:
            wire.send_reply(descriptor, request.unique)
            self._release(request.node, *wire.RELEASE.unpack_from(request.body))
            return
        try:
            parts = self._dispatch(request)
        except OSError as error:
            wire.send_error(descriptor, request.unique, error.errno or errno.EIO)
        except NotFoundError as error:
            logger.error("%s", error)
            wire.send_error(descriptor, request.unique, errno.ENOENT)
        except JiffyError as error:
            logger.error("%s", error)
            wire.send_error(descriptor, request.unique, errno.EIO)
        else:
            wire.send_reply(descriptor, request.unique, *parts)

    def _dispatch(self, request: Request) -> tuple[bytes, ...]:
        match request.operation:
            case Operation.LOOKUP:
                return (self._look_up(request.node, bytes(request.body).rstrip(b"\0")),)
            case Operation.GETATTR:
                return (wire.ATTRIBUTES_REPLY.pack(_FOREVER, 0, 0) + self._attributes(request.node),)
            case Operation.OPEN:
                with self._opening[request.node]:
                    return (self._open(request.node),)
            case Operation.READ:
                return (self._read(request.node, *wire.READ.unpack_from(request.body)),)
            case Operation.INIT:
                return (self._initialise(*wire.INIT.unpack_from(request.body)),)
            case Operation.STATFS:
                return (wire.STATISTICS.pack(0, 0, 0, 0, 0, 4096, 255, 4096),)
            case Operation.OPENDIR:
                return (wire.OPEN_REPLY.pack(0, 0, 0),)
            case Operation.READDIR | Operation.RELEASEDIR | Operation.DESTROY:
                return ()
        raise OSError(errno.ENOSYS, "not an operation of this filesystem")

    def _initialise(self, major: int, minor: int, read_ahead: int, flags: int, flags_high: int) -> bytes:
        offered = flags | flags_high << 32 if flags & wire.INIT_EXTENDED else flags
        agreed = offered & wire.WANTED
        self._passthrough = bool(agreed & wire.PASSTHROUGH)
        pages = (1 << 20) // 4096
        return wire.INIT_REPLY.pack(
            *(7, 40, read_ahead, agreed & 0xFFFFFFFF, 256, 192, 1 << 20, 1, pages, 0),
            *(agreed >> 32, 1 if self._passthrough else 0),
        )

    def _look_up(self, parent: int, name: bytes) -> bytes:
        if parent == _ROOT and _FOLDER_NAME.fullmatch(name):
            return self._entry(_FIRST_FOLDER + int(name, 16))
        if _is_folder(parent) and _OBJECT_NAME.fullmatch(name):
            return self._entry(self._nodes.node(f"{parent - _FIRST_FOLDER:02x}{name.decode()}"))
        raise OSError(errno.ENOENT, "no such name")

    def _entry(self, node: int) -> bytes:
        return wire.ENTRY.pack(node, 0, _FOREVER, _FOREVER, 0, 0) + self._attributes(node)

    def _digest(self, node: int) -> Digest:
        if (digest := self._nodes.digest(node)) is None:
            raise OSError(errno.ESTALE, "no object has this node")
        return digest

    def _attributes(self, node: int) -> bytes:
        """An object that is not here yet has no size: nobody asks for it before the open, which makes the kernel ask
        again."""
        if node == _ROOT or _is_folder(node):
            return wire.attributes(node, 0o40555, 0, 2)
        size = self._sizes.get(node) or self._tiers.local.size(self._digest(node))
        if size is None:
            self._unsized.add(node)
        return wire.attributes(node, 0o100444, size or 0, 1)

    def _open(self, node: int) -> bytes:
        """The kernel forbids to mix ways of reading one node: as long as it is open, others open it alike."""
        if (identifier := self._reuse_backing(node)) is not None:
            return wire.OPEN_REPLY.pack(self._add_handle(node, None), wire.OPEN_PASSTHROUGH, identifier)
        if (content := self._share_content(node)) is None:
            content, is_published = self._find_content(node)
            if node in self._unsized:
                self._unsized.discard(node)
                wire.send_invalidation(self._descriptor, node)
            is_free = is_published and self._passthrough and not self._opens.count(node)
            if is_free and (backing := self._share_backing(node, content)) is not None:
                content.close()
                return wire.OPEN_REPLY.pack(self._add_handle(node, None), wire.OPEN_PASSTHROUGH, backing)
        self._opens.add(node, 1)
        return wire.OPEN_REPLY.pack(self._add_handle(node, content), wire.OPEN_KEEP_CACHE, 0)

    def _find_content(self, node: int) -> tuple[Content, bool]:
        """What to read the object from, and whether it is a file of the directory. A large object is not waited for, and a
        full disk does not keep any from being read."""
        digest = self._digest(node)
        content: Content
        if (partial := self._partials.open(digest)) is not None:
            partial.begin()
            content = PartialContent(self._partials, partial)
        else:
            try:
                return FileContent(self._open_file(digest)), True
            except (ExhaustedError, FileNotFoundError) as error:
                logger.warning("%s: %s is served from memory", error, digest)
            content = FileContent(self._tiers.fetch_to_memory(digest))
        self._sizes[node] = content.size
        return content, False

    def _open_file(self, digest: Digest) -> int:
        """An object may be dropped from the cache between being found and being opened."""
        for _ in range(_OPEN_TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                return os.open(self._tiers.ensure(digest), os.O_RDONLY | os.O_CLOEXEC)
        return os.open(self._tiers.ensure(digest), os.O_RDONLY | os.O_CLOEXEC)

    def _reuse_backing(self, node: int) -> int | None:
        with self._lock:
            if (backing := self._backings.get(node)) is None:
                return None
            backing.opens += 1
            return backing.identifier

    def _share_content(self, node: int) -> Content | None:
        with self._lock:
            held = next((content for other, content in self._handles.values() if other == node and content), None)
            return None if held is None else held.share()

    def _share_backing(self, node: int, content: Content) -> int | None:
        """One backing file a node: the kernel refuses a second. None where the kernel cannot pass through."""
        with self._lock:
            backing = self._backings.get(node)
            if backing is None:
                assert isinstance(content, FileContent)
                try:
                    backing = _Backing(wire.open_backing(self._descriptor, content.descriptor))
                except OSError as error:
                    logger.warning("reads are not passed through: %s", error)
                    self._passthrough = False
                    return None
                self._backings[node] = backing
                self._ledger.note(backing.identifier, node)
            backing.opens += 1
            return backing.identifier

    def _add_handle(self, node: int, content: Content | None) -> int:
        with self._lock:
            handle = self._next_handle = self._next_handle + 1
            self._handles[handle] = (node, content)
        return handle

    def _read(self, node: int, handle: int, offset: int, size: int) -> bytes:
        """The kernel releases a handle only when all of its reads were answered."""
        with self._lock:
            _, content = self._handles.get(handle, (0, None))
        if content is None:  # opened by a daemon that died
            content = self._reopen(node, handle)
        return content.read(offset, size)

    def _reopen(self, node: int, handle: int) -> Content:
        """Two reads of one handle may come here at once."""
        with self._opening[node]:
            with self._lock:
                _, content = self._handles.get(handle, (0, None))
            if content is None:
                content, _ = self._find_content(node)
                with self._lock:
                    self._handles[handle] = (node, content)
            return content

    def _release(self, node: int, handle: int) -> None:
        """A handle that a dead daemon gave out was read through it, unless the node has a backing."""
        with self._lock:
            _, content = self._handles.pop(handle, (0, None))
            if content is not None:
                content.close()
            if content is not None or node not in self._backings:
                self._opens.add(node, -1)
            elif (backing := self._backings.get(node)) is not None:
                backing.opens -= 1
                if backing.opens == 0 and not backing.inherited:
                    del self._backings[node]
                    self._ledger.note(backing.identifier, 0)
                    wire.close_backing(self._descriptor, backing.identifier)


def _is_folder(node: int) -> bool:
    return _FIRST_FOLDER <= node < _FIRST_FOLDER + 256


def main() -> None:
    """The daemon. `--successor`: the mount is in use, and the daemon that served it died."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fuse-fds", type=int, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=())
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--backings-fd", type=int, required=True)
    parser.add_argument("--nodes-fd", type=int, required=True)
    parser.add_argument("--opens-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--successor", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s lazy: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    token = read_token(arguments.token_file) if arguments.token_file is not None else ""
    sources = open_sources(arguments.sources, token, deadline=_PATIENCE)
    data = DataDirectory(arguments.data)
    tiers = Tiers(LocalObjects(data.objects, data.incoming, durable=sources is None), sources)
    nodes = NodeLedger(arguments.nodes_fd, _FIRST_OBJECT)
    partials = Partials(data.partial, tiers)
    backings, opens = BackingLedger(arguments.backings_fd), OpenLedger(arguments.opens_fd, _FIRST_OBJECT)
    layer = LazyLayer(tiers, partials, arguments.fuse_fds[0], backings, nodes, opens)
    control = socket.socket(fileno=arguments.control_fd)
    threading.Thread(target=Prefetches(tiers, partials).obey, args=(control,), daemon=True).start()
    _run(layer, arguments.fuse_fds, successor=arguments.successor)


def _run(layer: LazyLayer, descriptors: list[int], *, successor: bool) -> None:
    """A thread for each descriptor."""
    if successor:
        try:
            wire.send_resend(descriptors[0])
        except OSError as error:
            logger.warning("requests that the last daemon held are lost: %s", error)
    threads = [threading.Thread(target=layer.serve, args=(descriptor,), daemon=True) for descriptor in descriptors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
