"""Frames of HTTP/2, as RFC 9113 lays them out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
DEFAULT_FRAME_BYTES: Final = 2**14
DEFAULT_WINDOW: Final = 2**16 - 1
MOST_WINDOW: Final = 2**31 - 1

_HEADER: Final = struct.Struct("!HBBBL")
_LONG: Final = struct.Struct("!L")
_SETTING: Final = struct.Struct("!HL")


class Kind(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    """Bits. ACK and END_STREAM are the same one, of different kinds of frames."""

    END_STREAM: Final = 0x1
    ACK: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class BrokenConnectionError(Exception):
    """The peer broke a rule that ends its connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class Frame(NamedTuple):
    """`kind` and `flags` as they came: what is not known is passed over."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class FrameReader:
    """Takes bytes as they come, gives frames."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Those that are complete now. Raises BrokenConnectionError for one that is too long."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= HEADER_BYTES:
                high, low, kind, flags, stream = _HEADER.unpack_from(buffer, at)
                length = (high << 8) | low
                if length > self._longest:
                    raise BrokenConnectionError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                end = at + HEADER_BYTES + length
                if len(buffer) < end:
                    return
                payload = bytes(buffer[at + HEADER_BYTES : end])
                at = end
                yield Frame(kind, flags, stream & MOST_WINDOW, payload)
        finally:
            del buffer[:at]


def encode_frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def encode_settings(settings: dict[Setting, int]) -> bytes:
    return encode_frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    if len(payload) % _SETTING.size:
        raise BrokenConnectionError(Code.FRAME_SIZE_ERROR, "settings are cut off")
    return list(_SETTING.iter_unpack(payload))


def encode_number(kind: Kind, stream: int, number: int) -> bytes:
    """A frame that has one number: RST_STREAM and WINDOW_UPDATE."""
    return encode_frame(kind, 0, stream, _LONG.pack(number))


def read_number(payload: bytes) -> int:
    if len(payload) != _LONG.size:
        raise BrokenConnectionError(Code.FRAME_SIZE_ERROR, "a frame that should have four bytes")
    return int(_LONG.unpack(payload)[0])


def encode_goaway(last_stream: int, code: Code, why: str = "") -> bytes:
    return encode_frame(Kind.GOAWAY, 0, 0, _LONG.pack(last_stream) + _LONG.pack(code) + why.encode())


def strip(frame: Frame) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding, and without a priority."""
    payload, start, padding = frame.payload, 0, 0
    if frame.flags & Flag.PADDED:
        padding, start = (payload[0] if payload else 256), 1
    if frame.kind == Kind.HEADERS and frame.flags & Flag.PRIORITY:
        start += 5
    if start + padding > len(payload):
        raise BrokenConnectionError(Code.PROTOCOL_ERROR, "padding that is longer than its frame")
    return payload[start : len(payload) - padding] if start or padding else payload
