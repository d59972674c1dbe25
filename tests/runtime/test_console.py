"""Terminals that a runtime delivers by a socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.errors import JiffyError
from jiffy.runtime import console as console_module
from jiffy.runtime.console import Console


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Deeper than the path of a socket may be."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    return deep


@pytest.fixture
def console(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setattr(console_module, "_SECONDS", 0.05)
    with Console(folder) as entered:
        yield entered


def connect(console: Console) -> socket.socket:
    """As a runtime does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(console.path)
    return connection


def test_what_was_delivered_is_taken(console: Console) -> None:
    ours, theirs = os.pipe()
    with connect(console) as connection:
        socket.send_fds(connection, [b"/dev/ptmx"], [theirs])
    os.close(theirs)
    taken = console.take()
    os.write(taken, b"shown")
    os.close(taken)
    assert os.read(ours, 10) == b"shown"
    os.close(ours)


def test_the_path_is_short_wherever_the_folder_is(console: Console, folder: Path) -> None:
    assert len(str(folder)) > 107 > len(console.path)


def test_nothing_delivered_is_an_error(console: Console) -> None:
    with pytest.raises(JiffyError, match="delivered no terminal"):
        console.take()


@pytest.mark.parametrize("words", [b"", b"no terminal with it"])
def test_a_connection_without_a_terminal_is_an_error(console: Console, words: bytes) -> None:
    with connect(console) as connection:
        connection.send(words)
    with pytest.raises(JiffyError, match="delivered no terminal"):
        console.take()


def test_nothing_is_open_afterwards(folder: Path) -> None:
    before = open_descriptors()
    with Console(folder) as console:
        path = console.path
    assert open_descriptors() == before
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, pytest.raises(OSError):
        connection.connect(path)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
