"""A client that says exactly what a test wants, by another implementation of HTTP/2."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Headers = list[tuple[str, str]]


def message(data: bytes, *, compressed: int = 0) -> bytes:
    return struct.pack("!BL", compressed, len(data)) + data


def request(path: str, *more: tuple[str, str], method: str = "POST", kind: str = "application/grpc") -> Headers:
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "here"),
        ("te", "trailers"),
        ("content-type", kind),
        *more,
    ]


@dataclass
class Answer:
    """`code` is that of a reset; `status` and `words` are those of gRPC."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_over: bool = False
    code: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.body):
            (length,) = struct.unpack_from("!L", self.body, at + 1)
            found.append(self.body[at + 5 : at + 5 + length])
            at += 5 + length
        return found


class Peer:
    """`takes`: whether what comes is made room for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.takes = True
        self.answers: dict[int, Answer] = {}
        self.farewell: int | None = None
        self.pings: list[bytes] = []

    def flush(self) -> None:
        self.writer.write(self.http.data_to_send())

    def ask(self, headers: Headers, body: bytes = b"", *, end: bool = True, piece: int = 2**14) -> int:
        number = self.http.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.http.send_headers(number, headers, end_stream=end and not body)
        for start in range(0, len(body), piece):
            is_last = start + piece >= len(body)
            self.http.send_data(number, body[start : start + piece], end_stream=end and is_last)
        self.flush()
        return number

    async def hear(self) -> bool:
        """What came now; False when the connection is closed."""
        data = await asyncio.wait_for(self.reader.read(65536), 10)
        if not data:
            return False
        self.note(self.http.receive_data(data))
        self.flush()
        return True

    def note(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case (
                    ResponseReceived(stream_id=number, headers=headers)
                    | TrailersReceived(stream_id=number, headers=headers)
                ):
                    self.answers[number].headers.update({str(name): str(value) for name, value in headers})
                case DataReceived(stream_id=number, data=data, flow_controlled_length=length):
                    self.answers[number].body += data
                    if self.takes:
                        self.http.acknowledge_received_data(length, number)
                case StreamEnded(stream_id=number):
                    self.answers[number].is_over = True
                case StreamReset(stream_id=number, error_code=code):
                    self.answers[number].code = code
                    self.answers[number].is_over = True
                case ConnectionTerminated(error_code=code):
                    self.farewell = code
                case PingAckReceived(ping_data=data):
                    self.pings.append(data)

    async def finish(self, number: int) -> Answer:
        while not self.answers[number].is_over:
            assert await self.hear(), "the connection was closed"
        return self.answers[number]

    async def hear_all(self) -> None:
        """Until the server hangs up."""
        while await self.hear():
            pass


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer)
    peer.http.initiate_connection()
    peer.flush()
    await peer.hear()  # the server's settings
    try:
        yield peer
    finally:
        writer.close()
