"""A profile holds what starts read, and is the same after it was written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.errors import CorruptError
from jiffy.objects.profile import MOST_OBJECTS, encode_profile, join_ranges, merge, read_profile, whole

A, B, C = "a" * 64, "b" * 64, "c" * 64
RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=12)


def bytes_of(ranges: list[tuple[int, int]]) -> set[int]:
    return {place for start, size in ranges for place in range(start, start + size)}


def test_what_was_written_is_read() -> None:
    profile = {A: (), B: ((0, 10), (50, 2**40)), C: ()}
    assert read_profile(encode_profile(profile)) == profile
    assert list(read_profile(encode_profile(profile))) == [A, B, C]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_one_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(CorruptError):
        read_profile(encode_profile({A: (), B: ((0, 10), (50, 5))})[:-cut])


@pytest.mark.parametrize("data", [b"", b"jiffyprf" + b"x" * 32, b"something else"])
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read_profile(data)


def test_merging_keeps_the_order_and_adds() -> None:
    assert list(merge(whole([B, A]), whole([C, A]))) == [B, A, C]


def test_of_a_large_object_both_parts_are_kept() -> None:
    assert merge({A: ((0, 10),)}, {A: ((5, 10), (90, 5))}) == {A: ((0, 15), (90, 5))}


def test_the_whole_is_more_than_any_part() -> None:
    assert merge({A: ()}, {A: ((5, 10),)}) == {A: ()}
    assert merge({A: ((5, 10),)}, {A: ()}) == {A: ()}


def test_a_new_object_keeps_its_ranges() -> None:
    assert merge({}, {A: ((5, 10),), B: ()}) == {A: ((5, 10),), B: ()}


def test_a_profile_does_not_grow_without_end() -> None:
    many = whole(f"{number:064x}" for number in range(MOST_OBJECTS + 10))
    assert len(merge(many, whole([A]))) == MOST_OBJECTS


@given(RANGES)
def test_joined_ranges_hold_the_same_bytes(ranges: list[tuple[int, int]]) -> None:
    joined = list(join_ranges(ranges))
    assert bytes_of(joined) == bytes_of(ranges)
    assert all(sum(first) < second[0] for first, second in itertools.pairwise(joined))
