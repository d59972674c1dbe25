"""Every request is answered once, whatever becomes of the daemon or of the answer."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from jiffy.errors import NotFoundError, UnavailableError
from jiffy.fs import wire
from jiffy.fs.ledger import RequestLedger
from jiffy.fs.serving import serve
from jiffy.fs.wire import Operation, Request

LOOK_UP, RELEASE, FORGET = int(Operation.LOOKUP), int(Operation.RELEASE), int(Operation.FORGET)


class Answers:
    """A filesystem that does what it is told for each name."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.released = threading.Event()

    def answer(self, request: Request) -> tuple[bytes, ...]:
        name = bytes(request.body)
        self.asked.append(name)
        match name:
            case b"unavailable":
                raise UnavailableError("the origin is away")
            case b"none":
                raise NotFoundError("no such object")
            case b"denied":
                raise OSError(errno.EACCES, "denied")
            case b"bug":
                raise ValueError("a mistake of ours")
        return b"answer to ", name

    def release(self, request: Request) -> None:
        self.released.set()


def encode(operation: int, unique: int, body: bytes) -> bytes:
    size = wire.HEADER.size + len(body)
    return wire.HEADER.pack(size, operation, unique, 1, 0, 0, 0, 0, 0) + body


class Kernel:
    """The other end of a descriptor."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def ask(self, operation: int, unique: int, body: bytes = b"") -> None:
        self._end.send(encode(operation, unique, body))

    def hear(self) -> tuple[int, int, bytes]:
        """The number of the request, an error or 0, and what the answer is."""
        data = self._end.recv(65536)
        size, error, unique = wire.REPLY.unpack_from(data)
        assert size == len(data)
        return unique, -error, data[wire.REPLY.size :]


@pytest.fixture
def ledger() -> Iterator[RequestLedger]:
    descriptor = os.memfd_create("requests")
    yield RequestLedger(descriptor, 2)
    os.close(descriptor)


@dataclass
class Connection:
    """`begin` serves a filesystem at its other end, until the test is over."""

    kernel: Kernel
    begin: Callable[[Answers], None]


@pytest.fixture
def connection(ledger: RequestLedger) -> Iterator[Connection]:
    kernels, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernels.settimeout(10)
    threads: list[threading.Thread] = []

    def begin(filesystem: Answers) -> None:
        threads.append(threading.Thread(target=serve, args=(filesystem, ours.fileno(), ledger, 1)))
        threads[-1].start()

    yield Connection(Kernel(kernels), begin)
    kernels.close()
    for thread in threads:
        thread.join()
    ours.close()


@pytest.mark.parametrize(
    ("name", "error"),
    [(b"unavailable", errno.EIO), (b"none", errno.ENOENT), (b"denied", errno.EACCES), (b"bug", errno.EIO)],
)
def test_an_error_is_an_answer_and_the_next_request_is_answered(
    connection: Connection, name: bytes, error: int
) -> None:
    kernel = connection.kernel
    connection.begin(Answers())
    kernel.ask(LOOK_UP, 5, name)
    assert kernel.hear() == (5, error, b"")
    kernel.ask(LOOK_UP, 6, b"more")
    assert kernel.hear() == (6, 0, b"answer to more")


def test_what_the_last_daemon_was_asked_is_answered_first(ledger: RequestLedger, connection: Connection) -> None:
    kernel = connection.kernel
    left = encode(LOOK_UP, 7, b"left")
    ledger.buffer(1)[: len(left)] = left
    kernel.ask(LOOK_UP, 8, b"new")
    connection.begin(Answers())
    assert kernel.hear() == (7, 0, b"answer to left")
    assert kernel.hear() == (8, 0, b"answer to new")


def test_a_request_is_in_the_ledger_until_it_is_answered(ledger: RequestLedger, connection: Connection) -> None:
    kernel = connection.kernel

    class Slow(Answers):
        def answer(self, request: Request) -> tuple[bytes, ...]:
            seen.append(ledger.is_pending(1))
            return super().answer(request)

    seen: list[bool] = []
    connection.begin(Slow())
    for unique in (1, 2):
        kernel.ask(LOOK_UP, unique, b"x")
        kernel.hear()
    assert seen == [True, True]
    assert not ledger.is_pending(0)


def test_a_release_is_answered_before_anything_is_done_for_it(connection: Connection) -> None:
    kernel = connection.kernel
    filesystem = Answers()
    connection.begin(filesystem)
    kernel.ask(RELEASE, 9)
    assert kernel.hear() == (9, 0, b"")
    assert filesystem.released.wait(10)


def test_what_wants_no_answer_gets_none(connection: Connection) -> None:
    kernel = connection.kernel
    connection.begin(Answers())
    kernel.ask(FORGET, 3)
    kernel.ask(LOOK_UP, 4, b"y")
    assert kernel.hear() == (4, 0, b"answer to y")
