"""Durations are read as Dockerfiles write them."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError
from jiffy.image.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("30s", 30 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("5ms", 5 * 10**6), (".5us", 500)],
)
def test_numbers_with_units_are_added(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1s2", "1d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no time"):
        parse_duration(text)
