"""The server's side of gRPC as another implementation of HTTP/2 meets it, in order and out of it."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise

import pytest
from h2.settings import SettingCodes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jiffy.grpc import connection
from jiffy.grpc.connection import Connection
from jiffy.grpc.frames import PREFACE, Code, Flag, Kind, encode_frame
from tests.grpc.conftest import Serving
from tests.grpc.peer import connect, message, request

OK, INVALID, DEADLINE, NOT_FOUND, EXHAUSTED, UNIMPLEMENTED, UNKNOWN = 0, 3, 4, 5, 8, 12, 2


async def test_a_request_is_answered(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/echo"), message(b"hello")))
    assert answer.messages == [b"hello"]
    assert answer.status == OK
    assert answer.headers[":status"] == "200"
    assert answer.headers["content-type"] == "application/grpc+proto"


async def test_many_requests_share_a_connection(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        numbers = [peer.ask(request("/echo"), message(b"%d" % number)) for number in range(50)]
        answers = [await peer.finish(number) for number in numbers]
    assert [answer.messages for answer in answers] == [[b"%d" % number] for number in range(50)]


async def test_an_answer_of_many_messages_has_them_in_order(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/many"), message(b"300")))
    assert answer.messages == [b"%d" % number for number in range(300)]
    assert answer.status == OK


async def test_an_answer_of_no_message_is_good_too(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/many"), message(b"0")))
    assert (answer.messages, answer.status) == ([], OK)


async def test_a_failure_says_so_in_words(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/no"), message(b"")))
    assert answer.status == NOT_FOUND
    assert answer.headers["grpc-message"] == "100 %25 not here: %C3%BC"


async def test_a_mistake_of_the_server_is_told_and_harms_nobody_else(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        broken = await peer.finish(peer.ask(request("/broken"), message(b"")))
        fine = await peer.finish(peer.ask(request("/echo"), message(b"x")))
    assert broken.status == UNKNOWN
    assert "a mistake" in broken.headers["grpc-message"]
    assert fine.status == OK


async def test_metadata_is_told_and_what_belongs_to_grpc_is_not(serving: Serving) -> None:
    more = (("x-name", "value"), ("x-raw-bin", "AAEC"), ("grpc-encoding", "identity"), ("user-agent", "tests"))
    async with connect(serving.port) as peer:
        await peer.finish(peer.ask(request("/echo", *more), message(b"")))
    (stream,) = serving.seen
    assert stream.metadata == {"x-name": "value", "x-raw-bin": b"\0\1\2"}
    assert stream.remaining is None


# What a client may send but must not


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (request("/echo", method="GET"), "405"),
        (request("/echo", kind="text/html"), "415"),
        (request("/echo", ("grpc-timeout", "soon")), "400"),
        (request("/echo", ("x-bin", "!")), "400"),
    ],
)
async def test_what_is_not_grpc_is_refused_by_http(
    serving: Serving, headers: list[tuple[str, str]], status: str
) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(headers, message(b"x")))
    assert answer.headers[":status"] == status
    assert serving.seen == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", INVALID),
        (b"\0\0", INVALID),
        (message(b"cut off")[:-1], INVALID),
        (message(b"one") + message(b"two"), INVALID),
        (message(b"squeezed", compressed=1), UNIMPLEMENTED),
    ],
)
async def test_a_request_has_one_plain_message(serving: Serving, body: bytes, status: int) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/echo"), body))
    assert answer.status == status


async def test_a_message_that_is_too_long_is_refused_while_it_comes(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MOST_MESSAGE", 20_000)
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/echo"), message(bytes(40_000)), end=False))
        assert answer.status == EXHAUSTED
        assert (await peer.finish(peer.ask(request("/echo"), message(b"short")))).status == OK


async def test_more_streams_than_there_may_be_are_refused(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(serving.port) as peer:
        monkeypatch.setattr(connection, "MOST_STREAMS", 1)
        peer.ask(request("/wait"), message(b""))
        answer = await peer.finish(peer.ask(request("/echo"), message(b"")))
    assert answer.code == Code.REFUSED_STREAM


# Ends


async def test_a_request_that_is_late_is_broken_off(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        answer = await peer.finish(peer.ask(request("/wait", ("grpc-timeout", "50m")), message(b"")))
    assert answer.status == DEADLINE
    assert serving.cancelled == 1


async def test_a_request_that_is_reset_is_broken_off(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        number = peer.ask(request("/wait"), message(b""))
        await until(lambda: serving.waiting == 1)
        peer.http.reset_stream(number, Code.CANCEL)
        peer.flush()
        await until(lambda: serving.cancelled == 1)
        assert (await peer.finish(peer.ask(request("/echo"), message(b"x")))).status == OK


async def test_a_client_that_hangs_up_leaves_nothing_running(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        for _ in range(3):
            peer.ask(request("/wait"), message(b""))
        peer.ask(request("/wait"), b"half", end=False)
        await until(lambda: serving.waiting == 3)
    await until(lambda: serving.cancelled == 3)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# Room


async def test_large_messages_pass_both_ways(serving: Serving) -> None:
    data = os.urandom(9_000_000)
    async with connect(serving.port) as peer:
        number = peer.ask(request("/echo"), end=False)
        body, sent = message(data), 0
        while sent < len(body):
            room = min(peer.http.local_flow_control_window(number), peer.http.max_outbound_frame_size)
            if not room:
                await peer.hear()
                continue
            peer.http.send_data(number, body[sent : sent + room], end_stream=sent + room >= len(body))
            sent += room
            peer.flush()
        answer = await peer.finish(number)
    assert answer.messages == [data]


async def test_no_more_is_sent_than_the_client_has_room_for(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        peer.takes = False
        number = peer.ask(request("/echo"), message(bytes(60_000)))
        other = peer.ask(request("/echo"), message(bytes(60_000)))
        while len(peer.answers[number].body) + len(peer.answers[other].body) < 65_535:
            await peer.hear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.reader.read(1), 0.1)
        peer.http.increment_flow_control_window(200_000)
        peer.flush()
        assert (await peer.finish(number)).messages == [bytes(60_000)]
        assert (await peer.finish(other)).messages == [bytes(60_000)]


async def test_a_window_may_shrink_below_nothing_while_an_answer_is_sent(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        peer.takes = False
        number = peer.ask(request("/echo"), message(bytes(100_000)))
        while len(peer.answers[number].body) < 65_535:
            await peer.hear()
        peer.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        peer.http.increment_flow_control_window(1_000_000)
        peer.http.increment_flow_control_window(65_525 + 34_470 + 5, number)
        peer.flush()
        assert (await peer.finish(number)).messages == [bytes(100_000)]


async def test_pings_are_answered(serving: Serving) -> None:
    async with connect(serving.port) as peer:
        peer.http.ping(b"12345678")
        peer.flush()
        while not peer.pings:
            await peer.hear()
    assert peer.pings == [b"12345678"]


# Frames as no library sends them


def headers(path: str) -> bytes:
    """A header block by hand: nothing in it is remembered."""
    literals = ((":method", "POST"), (":path", path), ("content-type", "application/grpc"))
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in literals
    )


async def test_headers_in_pieces_with_padding_and_a_priority_are_read(serving: Serving) -> None:
    block = headers("/echo")
    first = b"\x03" + bytes(5) + block[:7] + b"pad"
    async with connect(serving.port) as peer:
        peer.writer.write(
            encode_frame(Kind.HEADERS, Flag.PADDED | Flag.PRIORITY, 1, first)
            + encode_frame(Kind.CONTINUATION, 0, 1, block[7:20])
            + encode_frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, block[20:])
            + encode_frame(Kind.PRIORITY, 0, 1, bytes(5))
            + encode_frame(Kind.DATA, Flag.PADDED, 1, b"\x02" + message(b"in pieces")[:6] + b"??")
            + encode_frame(Kind.DATA, Flag.END_STREAM, 1, message(b"in pieces")[6:])
            + encode_frame(Kind.DATA, 0, 1, b"late")
        )
        await until(lambda: bool(serving.seen))
    assert serving.seen[0].request == b"in pieces"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (encode_frame(Kind.HEADERS, Flag.END_HEADERS, 2, headers("/echo")), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (encode_frame(Kind.HEADERS, Flag.PADDED, 1, b"\x09short"), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.HEADERS, 0, 1, b"") + encode_frame(Kind.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.CONTINUATION, 0, 1, b""), Code.PROTOCOL_ERROR),
        (
            encode_frame(Kind.HEADERS, 0, 1, b"") + encode_frame(Kind.CONTINUATION, 0, 1, bytes(2**15)) * 3,
            Code.ENHANCE_YOUR_CALM,
        ),
        (encode_frame(Kind.DATA, 0, 7, b"x"), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.PUSH_PROMISE, 0, 1, b""), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
        (encode_frame(Kind.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
        (encode_frame(Kind.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
        (encode_frame(Kind.PING, 0, 0, b"short"), Code.FRAME_SIZE_ERROR),
        (encode_frame(Kind.RST_STREAM, 0, 1, b""), Code.FRAME_SIZE_ERROR),
        (encode_frame(Kind.WINDOW_UPDATE, 0, 0, bytes(4)), Code.FLOW_CONTROL_ERROR),
        (encode_frame(Kind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
        (b"\xff\xff\xff" + bytes(6), Code.FRAME_SIZE_ERROR),
    ],
)
async def test_a_client_that_breaks_the_rules_is_told_which_and_hung_up_on(
    serving: Serving, frames: bytes, code: Code
) -> None:
    async with connect(serving.port) as peer, connect(serving.port) as other:
        peer.writer.write(frames)
        await peer.hear_all()
        assert peer.farewell == code
        assert (await other.finish(other.ask(request("/echo"), message(b"x")))).status == OK


async def test_what_is_not_http2_is_hung_up_on(serving: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert serving.seen == []


class Sink(asyncio.Transport):
    """Takes what a connection writes, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


SESSION = (
    PREFACE
    + encode_frame(Kind.SETTINGS, 0, 0)
    + encode_frame(Kind.HEADERS, Flag.END_HEADERS, 1, headers("/echo"))
    + encode_frame(Kind.DATA, Flag.END_STREAM, 1, message(b"whole"))
    + encode_frame(Kind.PING, 0, 0, b"12345678")
    + encode_frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 3, headers("/many"))
)


async def written(pieces: list[bytes]) -> bytes:
    sink = Sink()
    made = Connection(Serving(), lambda _: None, lambda _: None)
    made.connection_made(sink)
    for piece in pieces:
        made.data_received(piece)
    for _ in range(5):
        await asyncio.sleep(0)
    made.connection_lost(None)
    return sink.written


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(SESSION)), max_size=20))
def test_how_the_bytes_come_makes_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(SESSION)]
    pieces = [SESSION[start:end] for start, end in pairwise(places)]
    assert sorted(asyncio.run(written(pieces))) == sorted(asyncio.run(written([SESSION])))


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)).map(
            lambda each: encode_frame(each[0], each[1], each[2], each[3])  # type: ignore[arg-type]
        ),
        max_size=12,
    )
)
def test_no_frames_break_more_than_their_own_connection(frames: list[bytes]) -> None:
    """Nothing is raised, whatever comes: a connection goes on, or is closed in good order."""
    asyncio.run(written([PREFACE, *frames]))
