"""Plain mode: one layer's tree as a FUSE filesystem, for kernels that cannot join EROFS images with objects.

Names and stats come from the layer's EROFS image, which is mapped; nodes have the numbers that they have there, so no
daemon has to remember any. A file's content is its object's, fetched when it is first read. What the kernel was told once
it keeps: names, stats, links, directories and pages. As opening is no operation here, it does not even tell of opens: what
was read before is read again without the daemon.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from typing import Final

from jiffy.fs import wire
from jiffy.fs.contents import Contents, RecentContents
from jiffy.fs.tuning import Tuning
from jiffy.fs.wire import Operation, Request
from jiffy.image.erofs import METACOPY, OVERLAY
from jiffy.image.erofs_tree import ErofsTree, Node

_WANTED: Final = wire.WANTED | wire.READDIRPLUS | wire.READDIRPLUS_AUTO | wire.CACHE_SYMLINKS
_DOTS: Final = (b".", b"..")


class PlainTree:
    """Answers the requests of one mount."""

    def __init__(self, tree: ErofsTree, contents: Contents, tuning: Tuning) -> None:
        self._tree = tree
        self._tuning = tuning
        self._contents = RecentContents(contents)

    def answer(self, request: Request) -> tuple[bytes, ...]:
        """See serving.Filesystem."""
        match request.operation:
            case Operation.LOOKUP:
                return (self._look_up(self._node(request.node), _text(request.body)),)
            case Operation.GETATTR:
                return (wire.ATTRIBUTES_REPLY.pack(wire.FOREVER, 0, 0) + _attributes(self._node(request.node)),)
            case Operation.READLINK:
                return (self._tree.target(self._node(request.node)),)
            case Operation.READDIR | Operation.READDIRPLUS:
                return (self._list(request, *wire.READ.unpack_from(request.body)[1:]),)
            case Operation.GETXATTR | Operation.LISTXATTR:
                return (self._xattr(request, *wire.XATTR.unpack_from(request.body)[:1]),)
            case Operation.READ:
                return (self._read(self._node(request.node), *wire.READ.unpack_from(request.body)[1:]),)
            case Operation.INIT:
                return (wire.agree(request.body, _WANTED, self._tuning)[1],)
            case Operation.STATFS:
                return (wire.STATISTICS.pack(0, 0, 0, 0, 0, 4096, 255, 4096),)
            case Operation.DESTROY:
                return ()
        raise OSError(errno.ENOSYS, "not an operation of this filesystem")

    def release(self, request: Request) -> None:
        """See serving.Filesystem. Nobody opens, so nobody closes."""

    def _node(self, number: int) -> Node:
        return self._tree.node(self._tree.root if number == wire.ROOT else number)

    def _number(self, node: int) -> int:
        return wire.ROOT if node == self._tree.root else node

    def _look_up(self, parent: Node, name: bytes) -> bytes:
        """The kernel remembers what is not there, too."""
        number = self._tree.look_up(parent, name)
        if number is None:
            return wire.ENTRY.pack(0, 0, wire.FOREVER, 0, 0, 0) + bytes(wire.ATTRIBUTES.size)
        return self._entry(number)

    def _entry(self, number: int) -> bytes:
        head = wire.ENTRY.pack(self._number(number), 0, wire.FOREVER, wire.FOREVER, 0, 0)
        return head + _attributes(self._tree.node(number))

    def _list(self, request: Request, offset: int, size: int) -> bytes:
        """As many names as fit, from the one at an offset on."""
        reply = bytearray()
        for entry in self._entries(self._node(request.node), offset, request.operation == Operation.READDIRPLUS):
            if len(reply) + len(entry) > size:
                break
            reply += entry
        return bytes(reply)

    def _entries(self, parent: Node, offset: int, plus: bool) -> Iterator[bytes]:
        nothing = bytes(wire.ENTRY.size + wire.ATTRIBUTES.size)
        for position, (name, number) in enumerate(self._tree.names(parent, offset), start=offset):
            kind = stat.S_IFMT(self._tree.node(number).mode) >> 12
            entry = wire.directory_entry(number, position + 1, kind, name)
            if plus:
                entry = (nothing if name in _DOTS else self._entry(number)) + entry
            yield entry

    def _xattr(self, request: Request, size: int) -> bytes:
        """Overlayfs must not see that a file's content is elsewhere: it is here. What the object is may be asked."""
        name = b"" if request.operation == Operation.LISTXATTR else _text(request.body[wire.XATTR.size :])
        attributes = self._tree.xattrs(self._node(request.node)) if name != METACOPY else {}
        if not name:
            value = b"".join(each + b"\0" for each in attributes if not _is_own(each))
        elif name in attributes:
            value = attributes[name]
        else:
            raise OSError(errno.ENODATA, "no such attribute")
        if not size:
            return wire.XATTR.pack(len(value), 0)
        if len(value) > size:
            raise OSError(errno.ERANGE, "the attribute is longer")
        return value

    def _read(self, node: Node, offset: int, size: int) -> bytes:
        digest = self._tree.digest(node)
        if not digest:
            return b""
        with self._contents.borrow(digest) as content:
            return content.read(offset, size)


def _is_own(name: bytes) -> bool:
    """An image's own attributes for overlayfs are escaped."""
    return name.startswith(OVERLAY) and not name.startswith(OVERLAY + b"overlay.")


def _text(body: memoryview) -> bytes:
    return bytes(body).rstrip(b"\0")


def _attributes(node: Node) -> bytes:
    return wire.attributes(
        node.number, node.mode, node.size, node.links, (node.uid, node.gid), node.mtime_ns, _device(node)
    )


def _device(node: Node) -> int:
    return node.device if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode) else 0
