"""What a daemon must know of its predecessor, in memory files that their parent keeps."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import Final

from jiffy.objects.base import DIGEST_BYTES, Digest

_SLOT: Final = struct.Struct("<Q")
_REQUEST_LENGTH: Final = struct.Struct("<I")
_REQUEST_BYTES: Final = 16384
"""More than the longest request of a filesystem to which nobody writes."""


class BackingLedger:
    """Which node has which backing: slot N holds the node of backing N, or 0."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> dict[int, int]:
        size = os.fstat(self._descriptor).st_size
        slots = _SLOT.iter_unpack(os.pread(self._descriptor, size, 0))
        return {node: backing for backing, (node,) in enumerate(slots) if node}

    def note(self, backing: int, node: int) -> None:
        os.pwrite(self._descriptor, _SLOT.pack(node), backing * _SLOT.size)


class NodeLedger:
    """Which object each node is: the kernel may come back with a number that a dead daemon gave out. Nodes are numbered
    from `first`, in the order in which they were looked up."""

    def __init__(self, descriptor: int, first: int) -> None:
        self._descriptor = descriptor
        self._first = first
        self._lock = threading.Lock()
        raw = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        whole = len(raw) // DIGEST_BYTES
        self._digests = [raw[DIGEST_BYTES * number :][:DIGEST_BYTES].hex() for number in range(whole)]
        self._nodes = {digest: first + number for number, digest in enumerate(self._digests)}

    def node(self, digest: Digest) -> int:
        """The node of an object; a new one when it was never looked up."""
        with self._lock:
            node = self._nodes.get(digest)
            if node is None:
                os.pwrite(self._descriptor, bytes.fromhex(digest), len(self._digests) * DIGEST_BYTES)
                node = self._nodes[digest] = self._first + len(self._digests)
                self._digests.append(digest)
            return node

    def digest(self, node: int) -> Digest | None:
        """The object of a node; None when no daemon gave it out."""
        number = node - self._first
        return self._digests[number] if 0 <= number < len(self._digests) else None


class OpenLedger:
    """How many handles of each node are read through the daemon: as long as there is one, the kernel refuses to pass other
    reads of the node through. Too high a count costs speed, too low a one fails an open: what is noted before an open is
    answered is taken back after its release was. Nodes are numbered from `first`."""

    def __init__(self, descriptor: int, first: int) -> None:
        self._descriptor = descriptor
        self._first = first
        self._lock = threading.Lock()
        raw = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        self._counts: dict[int, int] = {
            first + slot: count for slot, (count,) in enumerate(_SLOT.iter_unpack(raw)) if count
        }

    def count(self, node: int) -> int:
        return self._counts.get(node, 0)

    def add(self, node: int, change: int) -> None:
        with self._lock:
            count = self._counts[node] = max(0, self._counts.get(node, 0) + change)
            if not count:
                del self._counts[node]
            os.pwrite(self._descriptor, _SLOT.pack(count), (node - self._first) * _SLOT.size)


class RequestLedger:
    """What each of `threads` threads is answering. The kernel puts requests right into it, and gives them to nobody else:
    the next daemon answers those that are still here."""

    def __init__(self, descriptor: int, threads: int) -> None:
        size = threads * _REQUEST_BYTES
        os.posix_fallocate(descriptor, 0, size)
        self._memory = memoryview(mmap.mmap(descriptor, size))

    def buffer(self, thread: int) -> memoryview:
        """Where a thread's next request goes."""
        return self._memory[thread * _REQUEST_BYTES :][:_REQUEST_BYTES]

    def is_pending(self, thread: int) -> bool:
        """Whether a thread has a request that nobody has answered."""
        return bool(_REQUEST_LENGTH.unpack_from(self.buffer(thread))[0])

    def clear(self, thread: int) -> None:
        """It has been answered."""
        _REQUEST_LENGTH.pack_into(self.buffer(thread), 0, 0)
