"""One client's connection: its streams, each a request and its answer, and what may be sent when."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from grpclib import GRPCError, Status

from jiffy.grpc.compression import HeaderUnpacker, Pair
from jiffy.grpc.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    MOST_WINDOW,
    PREFACE,
    BrokenConnectionError,
    Code,
    Flag,
    Frame,
    FrameReader,
    Kind,
    Setting,
    encode_frame,
    encode_goaway,
    encode_number,
    encode_settings,
    read_number,
    read_settings,
    strip,
)
from jiffy.grpc.headers import (
    ANSWER,
    GOOD_END,
    MOST_BYTES,
    BadRequestError,
    RequestHead,
    encode_end,
    encode_refusal,
    read_head,
)

logger = logging.getLogger(__name__)

MOST_STREAMS: Final = 10_000
MOST_MESSAGE: Final = 128 * 2**20
_MOST_HELD: Final = 512 * 2**20
"""Bytes of requests that are not complete, of one connection."""

_FRAME_BYTES: Final = 2**20
_STREAM_WINDOW: Final = 4 * 2**20
_WINDOW: Final = 16 * 2**20
_PREFIX: Final = struct.Struct("!BL")
"""Before each message: whether it is compressed, and its length."""


class Stream:
    """A request and its answer, for who serves it. `request` is its message, `authority` the host and port that it was sent
    to, as the client knows them."""

    def __init__(self, connection: Connection, number: int, head: RequestHead, request: bytes, window: int) -> None:
        self.path = head.path
        self.authority = head.authority
        self.metadata: Mapping[str, str | bytes] = head.metadata
        self.request = request
        self.connection = connection
        self.is_late = False
        self.window = window
        self._number = number
        self._has_begun = False
        self._has_ended = False
        self._deadline = None if head.timeout is None else connection.loop.time() + head.timeout

    @property
    def remaining(self) -> float | None:
        """Seconds until the answer is of no use; None for ever."""
        return None if self._deadline is None else self._deadline - self.connection.loop.time()

    @property
    def has_begun(self) -> bool:
        """Whether a message was sent."""
        return self._has_begun

    async def answer(self, message: bytes) -> None:
        """The only message, and the end."""
        self._has_ended = True
        await self.connection.send(self, self._number, self._begin(), message, GOOD_END)

    async def send(self, message: bytes) -> None:
        """One of many messages."""
        await self.connection.send(self, self._number, self._begin(), message, b"")

    def end(self) -> None:
        """All is said, unless it was said before."""
        if not self._has_ended:
            self._end(GOOD_END)

    def fail(self, status: Status, message: str) -> None:
        if not self._has_ended:
            self._end(encode_end(status, message))

    def _end(self, block: bytes) -> None:
        self._has_ended = True
        self.connection.end(self._number, self._begin() + block if not self._has_begun else block)

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return ANSWER


Serve = Callable[[Stream], Awaitable[None]]


class _Incoming:
    """A request whose message is not complete."""

    def __init__(self, head: RequestHead | BadRequestError) -> None:
        self.head = head
        self.body = bytearray()
        self.owed = 0


class Connection(asyncio.Protocol):
    """`serve` is called once the message of a request is complete. `opened` and `closed` are told of its begin and its end.
    `peer` is the address at the other end."""

    def __init__(
        self, serve: Serve, opened: Callable[[Connection], None], closed: Callable[[Connection], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.peer: Any = None
        self._serve = serve
        self._opened = opened
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._preface = PREFACE
        self._frames = FrameReader(_FRAME_BYTES)
        self._unpacker = HeaderUnpacker(MOST_BYTES)
        self._block: tuple[int, int, bytearray] | None = None
        self._incoming: dict[int, _Incoming] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._held = 0
        self._owed = 0
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = DEFAULT_FRAME_BYTES
        self._may_send = asyncio.Event()
        self._is_paused = False
        self._steps: dict[int, Callable[[Frame], None]] = {
            Kind.DATA: self._take_data,
            Kind.HEADERS: self._take_headers,
            Kind.CONTINUATION: self._continue_headers,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._take_settings,
            Kind.PING: self._take_ping,
            Kind.WINDOW_UPDATE: self._widen,
            Kind.PUSH_PROMISE: self._refuse_promise,
        }

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self._opened(self)
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
            Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            Setting.MAX_FRAME_SIZE: _FRAME_BYTES,
            Setting.MAX_HEADER_LIST_SIZE: MOST_BYTES,
        }
        self._write(encode_settings(settings) + encode_number(Kind.WINDOW_UPDATE, 0, _WINDOW - DEFAULT_WINDOW))

    def data_received(self, data: bytes) -> None:
        try:
            if self._preface:
                data = self._expect_preface(data)
            for frame in self._frames.feed(data):
                self._take(frame)
        except BrokenConnectionError as error:
            logger.info("a connection from %s is closed: %s", self.peer, error)
            self._hang_up(error.code, str(error))

    def _expect_preface(self, data: bytes) -> bytes:
        length = min(len(data), len(self._preface))
        if data[:length] != self._preface[:length]:
            raise BrokenConnectionError(Code.PROTOCOL_ERROR, "what came is not HTTP/2")
        self._preface = self._preface[length:]
        return data[length:]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._incoming.clear()
        for task in list(self._running.values()):
            task.cancel()
        self._may_send.set()
        self._closed(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    def close(self) -> list[asyncio.Task[None]]:
        """Break off what is under way; gives that."""
        running = list(self._running.values())
        self._hang_up(Code.NO_ERROR, "the server stops")
        return running

    def _hang_up(self, code: Code, why: str) -> None:
        if self._transport is not None:
            self._write(encode_goaway(self._last_stream, code, why))
            self._transport.close()
        for task in list(self._running.values()):
            task.cancel()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # Frames

    def _take(self, frame: Frame) -> None:
        if self._block is not None and (frame.kind != Kind.CONTINUATION or frame.stream != self._block[0]):
            raise BrokenConnectionError(Code.PROTOCOL_ERROR, "headers are interrupted")
        if (step := self._steps.get(frame.kind)) is not None:
            step(frame)

    def _refuse_promise(self, frame: Frame) -> None:
        raise BrokenConnectionError(Code.PROTOCOL_ERROR, "a client promises nothing")

    def _take_headers(self, frame: Frame) -> None:
        self._block = (frame.stream, frame.flags & Flag.END_STREAM, bytearray(strip(frame)))
        if frame.flags & Flag.END_HEADERS:
            self._end_headers()

    def _continue_headers(self, frame: Frame) -> None:
        if self._block is None:
            raise BrokenConnectionError(Code.PROTOCOL_ERROR, "headers that have not begun go on")
        self._block[2].extend(frame.payload)
        if len(self._block[2]) > MOST_BYTES:
            raise BrokenConnectionError(Code.ENHANCE_YOUR_CALM, "headers are too long")
        if frame.flags & Flag.END_HEADERS:
            self._end_headers()

    def _end_headers(self) -> None:
        assert self._block is not None
        (number, is_end, block), self._block = self._block, None
        pairs = self._unpacker.unpack(bytes(block))
        if number > self._last_stream:
            self._begin(number, pairs)
        elif number not in self._incoming:
            self._write(encode_number(Kind.RST_STREAM, number, Code.STREAM_CLOSED))
            return
        if is_end and number in self._incoming:
            self._complete(number)

    def _begin(self, number: int, pairs: list[Pair]) -> None:
        if number % 2 == 0:
            raise BrokenConnectionError(Code.PROTOCOL_ERROR, "streams of clients have odd numbers")
        self._last_stream = number
        if len(self._incoming) + len(self._running) >= MOST_STREAMS:
            self._write(encode_number(Kind.RST_STREAM, number, Code.REFUSED_STREAM))
            return
        try:
            self._incoming[number] = _Incoming(read_head(pairs))
        except BadRequestError as error:
            self._incoming[number] = _Incoming(error)

    def _take_data(self, frame: Frame) -> None:
        length = len(frame.payload)
        self._owed += length
        if self._owed > _WINDOW // 2:
            self._write(encode_number(Kind.WINDOW_UPDATE, 0, self._owed))
            self._owed = 0
        if frame.stream > self._last_stream or frame.stream == 0:
            raise BrokenConnectionError(Code.PROTOCOL_ERROR, "data of no stream")
        if (incoming := self._incoming.get(frame.stream)) is None:
            return
        incoming.body += strip(frame)
        self._held += length
        if frame.flags & Flag.END_STREAM:
            self._complete(frame.stream)
        elif len(incoming.body) > MOST_MESSAGE + _PREFIX.size:
            self._drop(frame.stream)
            self.end(frame.stream, ANSWER + encode_end(Status.RESOURCE_EXHAUSTED, "the message is too long"))
        elif self._held > _MOST_HELD:
            raise BrokenConnectionError(Code.ENHANCE_YOUR_CALM, "too much of too many requests at once")
        else:
            incoming.owed += length
            if incoming.owed > _STREAM_WINDOW // 2:
                self._write(encode_number(Kind.WINDOW_UPDATE, frame.stream, incoming.owed))
                incoming.owed = 0

    def _drop(self, number: int) -> _Incoming | None:
        if (incoming := self._incoming.pop(number, None)) is not None:
            self._held = max(0, self._held - len(incoming.body)) if self._incoming else 0
        return incoming

    def _reset(self, frame: Frame) -> None:
        read_number(frame.payload)
        self._drop(frame.stream)
        if (task := self._running.get(frame.stream)) is not None:
            task.cancel()

    def _take_settings(self, frame: Frame) -> None:
        if frame.flags & Flag.ACK:
            return
        for name, value in read_settings(frame.payload):
            if name == Setting.INITIAL_WINDOW_SIZE:
                if value > MOST_WINDOW:
                    raise BrokenConnectionError(Code.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
                self._wake()
            elif name == Setting.MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_BYTES <= value < 2**24:
                    raise BrokenConnectionError(Code.PROTOCOL_ERROR, f"frames of {value} bytes")
                self._frame_bytes = value
        self._write(encode_frame(Kind.SETTINGS, Flag.ACK, 0))

    def _take_ping(self, frame: Frame) -> None:
        if len(frame.payload) != 8:
            raise BrokenConnectionError(Code.FRAME_SIZE_ERROR, "a ping has eight bytes")
        if not frame.flags & Flag.ACK:
            self._write(encode_frame(Kind.PING, Flag.ACK, 0, frame.payload))

    def _widen(self, frame: Frame) -> None:
        number = read_number(frame.payload) & MOST_WINDOW
        if frame.stream == 0:
            self._window += number
            if number == 0 or self._window > MOST_WINDOW:
                raise BrokenConnectionError(Code.FLOW_CONTROL_ERROR, "a window that cannot be")
        elif (stream := self._streams.get(frame.stream)) is not None:
            stream.window += number
        self._wake()

    # Requests

    def _complete(self, number: int) -> None:
        incoming = self._drop(number)
        assert incoming is not None
        if isinstance(incoming.head, BadRequestError):
            self.end(number, encode_refusal(incoming.head.status))
            return
        try:
            message = _read_message(incoming.body)
        except GRPCError as error:
            self.end(number, ANSWER + encode_end(error.status, error.message or ""))
            return
        stream = self._streams[number] = Stream(self, number, incoming.head, message, self._stream_window)
        self._running[number] = self.loop.create_task(self._run(number, stream))

    async def _run(self, number: int, stream: Stream) -> None:
        alarm = None
        if (seconds := stream.remaining) is not None:
            alarm = self.loop.call_later(seconds, _give_up, stream, self._running[number])
        try:
            await self._serve(stream)
            stream.end()
        except GRPCError as error:
            stream.fail(error.status, error.message or "")
        except asyncio.CancelledError:
            if stream.is_late:
                stream.fail(Status.DEADLINE_EXCEEDED, "the deadline has passed")
        except ConnectionError as error:
            logger.info("an answer to %s was not taken: %s", stream.path, error)
        except Exception as error:
            logger.exception("%s failed", stream.path)
            stream.fail(Status.UNKNOWN, f"{type(error).__name__}: {error}")
        finally:
            if alarm is not None:
                alarm.cancel()
            del self._running[number], self._streams[number]

    # Answers

    def end(self, number: int, block: bytes) -> None:
        self._write(encode_frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, number, block))

    async def send(self, stream: Stream, number: int, head: bytes, message: bytes, end: bytes) -> None:
        """A message with the headers before and after it, as the client takes it."""
        data = _PREFIX.pack(0, len(message)) + message
        frames = encode_frame(Kind.HEADERS, Flag.END_HEADERS, number, head) if head else b""
        rest = memoryview(data)
        while True:
            room = max(0, min(len(rest), self._window, stream.window, self._frame_bytes))
            if room and not self._is_paused:
                self._window -= room
                stream.window -= room
                frames += encode_frame(Kind.DATA, 0, number, bytes(rest[:room]))
                rest = rest[room:]
            if not rest:
                break
            self._write(frames)
            frames = b""
            if not room or self._is_paused:
                await self._await_room()
        if end:
            frames += encode_frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, number, end)
        self._write(frames)
        if self._is_paused and not end:
            await self._await_room()

    async def _await_room(self) -> None:
        """Until the client has taken something."""
        if self._transport is None:
            raise ConnectionResetError("the client is gone")
        self._may_send.clear()
        await self._may_send.wait()

    def _wake(self) -> None:
        self._may_send.set()


def _give_up(stream: Stream, task: asyncio.Task[None]) -> None:
    stream.is_late = True
    task.cancel()


def _read_message(body: bytearray) -> bytes:
    if len(body) < _PREFIX.size:
        raise GRPCError(Status.INVALID_ARGUMENT, "a request without a message")
    is_compressed, length = _PREFIX.unpack_from(body)
    if is_compressed:
        raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not read here")
    if length != len(body) - _PREFIX.size:
        raise GRPCError(Status.INVALID_ARGUMENT, "a request has one message")
    return bytes(memoryview(body)[_PREFIX.size :])
