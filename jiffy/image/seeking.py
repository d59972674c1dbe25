"""Reading a gzip stream from the middle, by what is known of a place in it.

A block of deflate may begin within a byte, where zlib's own way to go on is not reachable from Python. So what is read is
given another beginning: empty blocks, as many bits as are missing.
"""

from __future__ import annotations

from typing import Any, Final

from isal import isal_zlib

_GZIP: Final = 31
_RAW: Final = -15
_TRAILER_BYTES: Final = 8
_CODE_LENGTH_ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)


def inflate_within(data: bytes, bits: int, window: bytes, size: int) -> bytes:
    """As many bytes as are wanted, from a place where a block begins: in the last `bits` of the first byte, or with it when
    there are none. `window` is the content before it. Further members of the stream are read too. One of
    compression.ERRORS when it is none."""
    if bits and data:
        data = _begin(data[0] >> (8 - bits), bits) + data[1:]
    stream: Any = isal_zlib.decompressobj(_RAW, window) if window else isal_zlib.decompressobj(_RAW)
    plain: bytes = stream.decompress(data, size)
    if stream.eof and len(plain) < size:
        plain += gunzip(stream.unused_data[_TRAILER_BYTES:], size - len(plain))
    return plain


def gunzip(data: bytes, size: int) -> bytes:
    """As many bytes as are wanted of the members of a gzip stream that follow each other. One of compression.ERRORS when
    they are none."""
    parts: list[bytes] = []
    left = size
    while data and left:
        member = isal_zlib.decompressobj(_GZIP)
        part = member.decompress(data, left)
        parts.append(part)
        left -= len(part)
        data = member.unused_data if member.eof else b""
    return b"".join(parts)


def _begin(first: int, bits: int) -> bytes:
    """Empty blocks, and then the first bits of another, which end a byte."""
    padding = _PADDINGS[-bits % 8]
    number = sum(bit << place for place, bit in enumerate(padding)) | first << len(padding)
    return number.to_bytes((len(padding) + bits) // 8, "little")


def _number(value: int, bits: int) -> list[int]:
    """The lowest bit first, as deflate has its numbers."""
    return [value >> place & 1 for place in range(bits)]


def _fixed_block() -> list[int]:
    """Ten bits: an empty block that is not the last, with the fixed codes."""
    return [*_number(0, 1), *_number(1, 2), *_number(0, 7)]


def _dynamic_block() -> list[int]:
    """An odd number of bits: an empty block with codes of its own, in which only its end has one."""
    lengths = {0: 1, 1: 2, 18: 2}
    header = [*_number(0, 1), *_number(2, 2), *_number(0, 5), *_number(0, 5), *_number(14, 4)]
    codes = [bit for symbol in _CODE_LENGTH_ORDER for bit in _number(lengths.get(symbol, 0), 3)]
    many_zeros = [1, 1, *_number(138 - 11, 7), 1, 1, *_number(118 - 11, 7)]
    one, zero, end = [1, 0], [0], [0]
    return [*header, *codes, *many_zeros, *one, *zero, *end]


def _padding(length: int) -> list[int]:
    """Empty blocks whose bits are, but for whole bytes, so many."""
    start = _dynamic_block() if length % 2 else []
    while len(start) % 8 != length:
        start = [*start, *_fixed_block()]
    return start


_PADDINGS: Final = [_padding(length) for length in range(8)]
