"""What a daemon notes, the next one reads."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from jiffy.fs.ledger import BackingLedger, NodeLedger

A, B = "a" * 64, "b" * 64


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    yield descriptor
    os.close(descriptor)


def test_a_node_stays_the_same_object_for_every_daemon(memory: int) -> None:
    first = NodeLedger(memory, 100)
    assert [first.node(A), first.node(B), first.node(A)] == [100, 101, 100]
    second = NodeLedger(memory, 100)
    assert (second.digest(100), second.digest(101)) == (A, B)
    assert second.node(B) == 101
    assert second.node("c" * 64) == 102


def test_numbers_that_were_never_given_out_are_no_objects(memory: int) -> None:
    ledger = NodeLedger(memory, 100)
    ledger.node(A)
    assert ledger.digest(99) is None
    assert ledger.digest(101) is None


def test_a_note_that_was_cut_off_by_a_kill_is_not_there(memory: int) -> None:
    NodeLedger(memory, 100).node(A)
    os.pwrite(memory, b"half", 32)
    ledger = NodeLedger(memory, 100)
    assert ledger.digest(101) is None
    assert ledger.node(B) == 101
    assert NodeLedger(memory, 100).digest(101) == B


def test_backings_are_known_until_they_are_closed(memory: int) -> None:
    ledger = BackingLedger(memory)
    ledger.note(1, 500)
    ledger.note(3, 600)
    assert BackingLedger(memory).read() == {500: 1, 600: 3}
    ledger.note(1, 0)
    assert BackingLedger(memory).read() == {600: 3}
