"""HPACK, by which a client packs the headers of its requests (RFC 7541): most are numbers of entries in a table that both
ends keep. What is asked for again and again is unpacked by looking it up; the codes themselves are a library's.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from jiffy.grpc.frames import BrokenConnectionError, Code

Pair = tuple[str, str]

TABLE_BYTES: Final = 4096
"""The size of the table, as both ends have it unless they say otherwise."""

_ENTRY_BYTES: Final = 32
_LONGEST_PADDING: Final = 7
_END_OF_STRING: Final = 256
_MOST_KNOWN: Final = 2000
_SHORT: Final = 100
"""Bytes of texts that are remembered."""

_MOST_NUMBER: Final = 2**28

_STATIC: Final[tuple[Pair, ...]] = tuple((name.decode(), value.decode()) for name, value in HeaderTable.STATIC_TABLE)


def _fail(why: str) -> BrokenConnectionError:
    return BrokenConnectionError(Code.COMPRESSION_ERROR, why)


class HeaderUnpacker:
    """One connection's end of the table. `longest`: bytes of all headers of a request together."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._entries: deque[Pair] = deque()
        self._bytes = 0
        self._room = TABLE_BYTES

    def unpack(self, block: bytes) -> list[Pair]:
        """Raises BrokenConnectionError for what is no header block: the table is of no use after it."""
        try:
            return self._unpack(block)
        except (IndexError, UnicodeDecodeError) as error:
            raise _fail("a header block is cut off, or no text") from error

    def _unpack(self, block: bytes) -> list[Pair]:
        pairs: list[Pair] = []
        total, at, end = 0, 0, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                number, at = _read_number(block, at, 0x7F)
                pair = self._entry(number)
            elif first & 0xE0 == 0x20:
                room, at = _read_number(block, at, 0x1F)
                self._resize(room, is_first=not pairs)
                continue
            else:
                pair, at = self._literal(block, at)
            pairs.append(pair)
            total += len(pair[0]) + len(pair[1]) + _ENTRY_BYTES
            if total > self._longest:
                raise BrokenConnectionError(Code.ENHANCE_YOUR_CALM, "headers are too long")
        return pairs

    def _literal(self, block: bytes, at: int) -> tuple[Pair, int]:
        is_kept = block[at] & 0x40
        number, at = _read_number(block, at, 0x3F if is_kept else 0x0F)
        if number:
            name = self._entry(number)[0]
        else:
            name, at = _read_text(block, at)
        value, at = _read_text(block, at)
        if is_kept:
            self._keep((name, value))
        return (name, value), at

    def _entry(self, number: int) -> Pair:
        if 0 < number <= len(_STATIC):
            return _STATIC[number - 1]
        place = number - len(_STATIC) - 1
        if not 0 <= place < len(self._entries):
            raise _fail(f"the table has no entry {number}")
        return self._entries[place]

    def _keep(self, pair: Pair) -> None:
        self._bytes += _size(pair)
        self._entries.appendleft(pair)
        self._drop_oldest()

    def _resize(self, room: int, *, is_first: bool) -> None:
        if room > TABLE_BYTES or not is_first:
            raise _fail("the table cannot have that size now")
        self._room = room
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self._bytes > self._room:
            self._bytes -= _size(self._entries.pop())


def _size(pair: Pair) -> int:
    return len(pair[0].encode()) + len(pair[1].encode()) + _ENTRY_BYTES


def _read_number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number whose first bits are in the byte that is there, and where it ends."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if number > _MOST_NUMBER:
            raise _fail("a number is too large")
        if not byte & 0x80:
            return number, at
        shift += 7


def _read_text(block: bytes, at: int) -> tuple[str, int]:
    is_packed = block[at] & 0x80
    length, at = _read_number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _fail("a header is cut off")
    raw = block[at:end]
    return (_TEXTS.unpack(raw) if is_packed else raw.decode()), end


class _Texts:
    """Unpacks texts of Huffman's code. The steps from one byte to the next are found when they are needed first, and so are
    whole texts: most come again."""

    def __init__(self) -> None:
        self._tree: list[list[int]] = [[0, 0]]
        """Nodes: where each bit leads to; a negative number is a symbol, less one."""
        for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
            self._plant(symbol, code, length)
        self._steps: dict[int, tuple[bytes, int]] = {}
        self._known: dict[bytes, str] = {}
        self._ends = self._padding_nodes()

    def unpack(self, raw: bytes) -> str:
        if (known := self._known.get(raw)) is not None:
            return known
        node, found = 0, []
        for byte in raw:
            step = self._steps.get(node << 8 | byte) or self._step(node, byte)
            found.append(step[0])
            node = step[1]
        if node not in self._ends:
            raise _fail("a text ends within a letter")
        text = b"".join(found).decode()
        if len(raw) <= _SHORT:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[raw] = text
        return text

    def _plant(self, symbol: int, code: int, length: int) -> None:
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not self._tree[node][bit]:
                self._tree.append([0, 0])
                self._tree[node][bit] = len(self._tree) - 1
            node = self._tree[node][bit]
        self._tree[node][code & 1] = -symbol - 1

    def _step(self, node: int, byte: int) -> tuple[bytes, int]:
        letters, start = bytearray(), node
        for place in range(7, -1, -1):
            node = self._tree[node][byte >> place & 1]
            if node < 0:
                symbol, node = -node - 1, 0
                if symbol == _END_OF_STRING:
                    raise _fail("a text has its end within")
                letters.append(symbol)
        step = self._steps[start << 8 | byte] = (bytes(letters), node)
        return step

    def _padding_nodes(self) -> frozenset[int]:
        """Where a text may end: after whole letters, and up to seven bits of the code that stands for the end."""
        nodes, node = [0], 0
        for _ in range(_LONGEST_PADDING):
            node = self._tree[node][1]
            nodes.append(node)
        return frozenset(nodes)


_TEXTS: Final = _Texts()
