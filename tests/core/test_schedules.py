"""Cron expressions and periods, with changes of clocks."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.schedules import Period, parse_cron
from jiffy.errors import InvalidError

BERLIN = ZoneInfo("Europe/Berlin")


def following(text: str, start: str, zone: tzinfo = UTC, count: int = 1) -> list[str]:
    """The next times after a local one, as local times."""
    moment = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    found = []
    for _ in range(count):
        moment = parse_cron(text).next_after(moment, zone)
        found.append(datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("* * * * *", "2026-11-21 10:00:30", "2026-11-21 10:01"),
        ("0 9 * * *", "2026-11-21 09:00", "2026-11-22 09:00"),
        ("*/15 * * * *", "2026-11-21 10:46", "2026-11-21 11:00"),
        ("10-20/5 * * * *", "2026-11-21 10:11", "2026-11-21 10:15"),
        ("5/20 * * * *", "2026-11-21 10:26", "2026-11-21 10:45"),
        ("0 9 * * 1-5", "2026-11-20 10:00", "2026-11-23 09:00"),
        ("0 9 * * mon,wed", "2026-11-21 10:00", "2026-11-23 09:00"),
        ("0 0 * * 7", "2026-11-21 10:00", "2026-11-22 00:00"),
        ("0 0 1 jan *", "2026-11-21 10:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2026-11-21 10:00", "2028-02-29 00:00"),
        ("0 0 13 * fri", "2026-11-21 10:00", "2026-11-27 00:00"),
        ("0 0 13 * *", "2026-11-21 10:00", "2026-12-13 00:00"),
        ("@weekly", "2026-11-21 10:00", "2026-11-22 00:00"),
        ("0 0 */10 * mon", "2026-11-21 10:00", "2026-12-21 00:00"),
    ],
)
def test_the_next_time(text: str, start: str, expected: str) -> None:
    assert following(text, start) == [expected]


def test_a_time_that_the_clocks_leave_out_is_the_moment_after() -> None:
    assert following("30 2 * * *", "2026-03-28 12:00", BERLIN, 2) == ["2026-03-29 03:00", "2026-03-30 02:30"]


def test_a_time_that_comes_twice_counts_once() -> None:
    assert following("30 2 * * *", "2026-10-24 12:00", BERLIN, 2) == ["2026-10-25 02:30", "2026-10-26 02:30"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("* * * *", "five"),
        ("60 * * * *", "minute"),
        ("* 5-1 * * *", "hour"),
        ("*/0 * * * *", "step"),
        ("* * * foo *", "month"),
        ("* * 1-2-3 * *", "range"),
        ("* * ² * *", "number"),
    ],
)
def test_a_wrong_field_is_named(text: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        parse_cron(text)


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidError, match="never"):
        parse_cron("0 0 31 2 *").next_after(0, UTC)


def test_a_period_of_months_stays_within_the_month() -> None:
    january = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(Period(months=1).next_after(january), UTC) == datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert Period(seconds=90).next_after(january) == january + 90


def test_a_period_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidError):
        Period()


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    day=st.integers(0, 800),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_a_daily_job_runs_once_a_day_every_day(minute: int, hour: int, day: int, zone: str) -> None:
    cron, place = parse_cron(f"{minute} {hour} * * *"), ZoneInfo(zone)
    moment = datetime(2025, 1, 1, tzinfo=UTC).timestamp() + day * 86400
    days = []
    for _ in range(4):
        moment = cron.next_after(moment, place)
        days.append(datetime.fromtimestamp(moment, place).date().toordinal())
    assert [later - earlier for earlier, later in pairwise(days)] == [1, 1, 1]


@given(st.text(alphabet="0123456789*/-,@ abcdefghijklmnopqrstuvwxyz", max_size=40))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    with suppress(InvalidError):
        parse_cron(text)
