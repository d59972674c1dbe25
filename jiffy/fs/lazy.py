"""The lazy layer: a FUSE filesystem in which every object of the origin is a file, named by its hash.

Overlayfs looks here only for an object that the host's own directory lacks, when a file that needs it is opened or changed.
A look-up finds whatever has the form of a digest; an open fetches, verifies and publishes the object, and passes reads
through to the published file. Whoever comes later finds the object in the directory, and never asks here.

When its daemon dies, the next one goes on with the same mount. Files that the dead one had opened are still passed through
by the kernel, which then refuses any other backing for them; ledgers, kept by the daemon's parent, tell the next one which
backing each has, and which object each node is.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from jiffy.fs import wire
from jiffy.fs.contents import Content, Contents, FileContent, first_handle
from jiffy.fs.ledger import BackingLedger, NodeLedger, OpenLedger
from jiffy.fs.tuning import Tuning
from jiffy.fs.wire import Operation, Request
from jiffy.objects.base import Digest

logger = logging.getLogger(__name__)

_FIRST_FOLDER: Final = 2
FIRST_OBJECT: Final = _FIRST_FOLDER + 256
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
        contents: Contents,
        descriptor: int,
        backings: BackingLedger,
        nodes: NodeLedger,
        opens: OpenLedger,
        tuning: Tuning,
    ) -> None:
        self._contents = contents
        self._descriptor = descriptor
        self._ledger = backings
        self._nodes = nodes
        self._opens = opens
        self._tuning = tuning
        self._opening: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self._unsized: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._backings = {node: _Backing(backing, inherited=True) for node, backing in backings.read().items()}
        self._handles: dict[int, tuple[int, Content | None]] = {}
        self._next_handle = first_handle()
        self._passthrough = True

    def answer(self, request: Request) -> tuple[bytes, ...]:
        """See serving.Filesystem."""
        match request.operation:
            case Operation.LOOKUP:
                return (self._look_up(request.node, bytes(request.body).rstrip(b"\0")),)
            case Operation.GETATTR:
                return (wire.ATTRIBUTES_REPLY.pack(wire.FOREVER, 0, 0) + self._attributes(request.node),)
            case Operation.OPEN:
                with self._opening[request.node]:
                    return (self._open(request.node),)
            case Operation.READ:
                return (self._read(request.node, *wire.READ.unpack_from(request.body)),)
            case Operation.INIT:
                return (self._initialise(request.body),)
            case Operation.STATFS:
                return (wire.STATISTICS.pack(0, 0, 0, 0, 0, 4096, 255, 4096),)
            case Operation.OPENDIR:
                return (wire.OPEN_REPLY.pack(0, 0, 0),)
            case Operation.READDIR | Operation.RELEASEDIR | Operation.DESTROY:
                return ()
        raise OSError(errno.ENOSYS, "not an operation of this filesystem")

    def _initialise(self, body: memoryview) -> bytes:
        agreed, reply = wire.agree(body, wire.WANTED | wire.PASSTHROUGH, self._tuning)
        self._passthrough = bool(agreed & wire.PASSTHROUGH)
        return reply

    def _look_up(self, parent: int, name: bytes) -> bytes:
        if parent == wire.ROOT and _FOLDER_NAME.fullmatch(name):
            return self._entry(_FIRST_FOLDER + int(name, 16))
        if _is_folder(parent) and _OBJECT_NAME.fullmatch(name):
            return self._entry(self._nodes.node(f"{parent - _FIRST_FOLDER:02x}{name.decode()}"))
        raise OSError(errno.ENOENT, "no such name")

    def _entry(self, node: int) -> bytes:
        return wire.ENTRY.pack(node, 0, wire.FOREVER, wire.FOREVER, 0, 0) + self._attributes(node)

    def _digest(self, node: int) -> Digest:
        if (digest := self._nodes.digest(node)) is None:
            raise OSError(errno.ESTALE, "no object has this node")
        return digest

    def _attributes(self, node: int) -> bytes:
        """An object that is not here yet has no size: nobody asks for it before the open, which makes the kernel ask
        again."""
        if node == wire.ROOT or _is_folder(node):
            return wire.attributes(node, 0o40555, 0, 2)
        size = self._sizes.get(node) or self._contents.tiers.local.size(self._digest(node))
        if size is None:
            self._unsized.add(node)
        return wire.attributes(node, 0o100444, size or 0, 1)

    def _open(self, node: int) -> bytes:
        """The kernel forbids to mix ways of reading one node: as long as it is open, others open it alike."""
        if (identifier := self._reuse_backing(node)) is not None:
            return wire.OPEN_REPLY.pack(self._add_handle(node, None), wire.OPEN_THROUGH, identifier)
        if (content := self._share_content(node)) is None:
            content, is_published = self._find_content(node)
            if node in self._unsized:
                self._unsized.discard(node)
                wire.send_invalidation(self._descriptor, node)
            is_free = is_published and self._passthrough and not self._opens.count(node)
            if is_free and (backing := self._share_backing(node, content)) is not None:
                content.close()
                return wire.OPEN_REPLY.pack(self._add_handle(node, None), wire.OPEN_THROUGH, backing)
        self._opens.add(node, 1)
        how = wire.OPEN_DIRECT if self._tuning.direct else wire.OPEN_CACHED
        return wire.OPEN_REPLY.pack(self._add_handle(node, content), how, 0)

    def _find_content(self, node: int) -> tuple[Content, bool]:
        content, is_published = self._contents.open(self._digest(node))
        if not is_published:
            self._sizes[node] = content.size
        return content, is_published

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

    def release(self, request: Request) -> None:
        """A handle that a dead daemon gave out was read through it, unless the node has a backing."""
        node = request.node
        (handle,) = wire.RELEASE.unpack_from(request.body)
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
