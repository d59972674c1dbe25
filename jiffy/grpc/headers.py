"""Headers as gRPC uses them: what a request says of itself, and the few that an answer has.

Those of requests come packed. Those of answers are written plainly, so that the same answer is always the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from grpclib import Status

from jiffy.grpc.compression import Pair

MOST_BYTES: Final = 2**16

_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"(\d{1,8})([HMSmun])")
_OURS: Final = ("content-type", "te", "user-agent")
_PLAIN: Final = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_STATUS_200: Final = b"\x88"


class BadRequestError(Exception):
    """A request that is none of gRPC. `status` is that of HTTP."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`timeout`: seconds until its answer is of no use; None for ever. `metadata`: what the caller adds; values whose names
    end in -bin are bytes."""

    path: str
    authority: str
    timeout: float | None
    metadata: Mapping[str, str | bytes]


def read_head(pairs: Sequence[Pair]) -> RequestHead:
    headers = dict(pairs)
    if headers.get(":method") != "POST":
        raise BadRequestError(405, "gRPC is by POST")
    if not headers.get("content-type", "").startswith("application/grpc"):
        raise BadRequestError(415, "not of type application/grpc")
    timeout = headers.get("grpc-timeout")
    return RequestHead(
        headers.get(":path", ""),
        headers.get(":authority", ""),
        None if timeout is None else read_timeout(timeout),
        {name: _value(name, value) for name, value in headers.items() if _is_metadata(name)},
    )


def read_timeout(text: str) -> float:
    if (match := _TIMEOUT.fullmatch(text)) is None:
        raise BadRequestError(400, f"{text!r} is no timeout")
    return int(match[1]) * _UNITS[match[2]]


def _is_metadata(name: str) -> bool:
    return name[0] != ":" and name not in _OURS and not name.startswith("grpc-")


def _value(name: str, value: str) -> str | bytes:
    if not name.endswith("-bin"):
        return value
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise BadRequestError(400, f"{name} is not base64") from error


def _number(number: int, bits: int, first: int) -> bytes:
    """An integer of HPACK, in the last bits of a first byte and as many more as it needs."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    encoded = bytearray([first | most])
    number -= most
    while number >= 128:
        encoded.append(0x80 | (number & 0x7F))
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _encode(name: str, value: str) -> bytes:
    """One header, which neither end is to remember."""
    raw, data = name.encode(), value.encode()
    return b"\0" + _number(len(raw), 7, 0) + raw + _number(len(data), 7, 0) + data


ANSWER: Final = _STATUS_200 + _encode("content-type", "application/grpc+proto")
GOOD_END: Final = _encode("grpc-status", "0")


def encode_end(status: Status, message: str) -> bytes:
    return _encode("grpc-status", str(status.value)) + _encode("grpc-message", quote(message, safe=_PLAIN))


def encode_refusal(status: int) -> bytes:
    """Of what is no request of gRPC."""
    return _encode(":status", str(status))
