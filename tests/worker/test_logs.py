"""A container's output arrives whole, in order, soon."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from jiffy.core.events import LogWritten
from jiffy.worker.logs import LARGEST_PIECE, LogPipe


class Sink:
    def __init__(self) -> None:
        self.events: list[LogWritten] = []
        self.full = False

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def open_pipe(sink: Sink) -> tuple[LogPipe, int]:
    pipe = LogPipe("ta-1", 1, sink.events.append, lambda: sink.full)
    writer = os.dup(pipe.writer)
    pipe.close_writer()
    return pipe, writer


async def test_output_is_reported_within_a_tenth_of_a_second(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    started = time.monotonic()
    os.write(writer, b"hello\n")
    while not sink.events:
        await asyncio.sleep(0.001)
        assert time.monotonic() - started < 5
    assert sink.events[0].text == "hello\n"
    assert (sink.events[0].task_id, sink.events[0].stream) == ("ta-1", 1)
    os.close(writer)
    await pipe.drain(1)


async def test_many_small_writes_become_few_events(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    for number in range(1000):
        os.write(writer, b"%d\n" % number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    os.close(writer)
    await pipe.drain(5)
    assert sink.text == "".join(f"{number}\n" for number in range(1000))
    assert len(sink.events) < 50


async def test_a_character_that_is_split_between_writes_stays_whole(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    for byte in "grün €".encode():
        os.write(writer, bytes([byte]))
        await asyncio.sleep(0.005)
    os.close(writer)
    await pipe.drain(1)
    assert sink.text == "grün €"


async def test_bytes_that_are_no_text_are_replaced(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    os.write(writer, b"\xff\xfeok\xe2")
    os.close(writer)
    await pipe.drain(1)
    assert sink.text == "\ufffd\ufffdok\ufffd"


async def test_large_output_comes_in_bounded_pieces(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    data = b"x" * 3_000_000
    await asyncio.to_thread(write_all, writer, data)
    await pipe.drain(5)
    assert len(sink.text) == len(data)
    assert max(len(event.text) for event in sink.events) <= LARGEST_PIECE


async def test_the_container_waits_while_reports_pile_up(sink: Sink) -> None:
    sink.full = True
    pipe, writer = open_pipe(sink)
    os.write(writer, b"later")
    await asyncio.sleep(0.15)
    assert sink.text == ""
    sink.full = False
    os.close(writer)
    await pipe.drain(5)
    assert sink.text == "later"


async def test_a_process_that_keeps_the_pipe_open_does_not_hold_up_the_end(sink: Sink) -> None:
    pipe, writer = open_pipe(sink)
    os.write(writer, b"before")
    await pipe.drain(0.1)
    assert sink.text == "before"
    os.close(writer)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.close(descriptor)
