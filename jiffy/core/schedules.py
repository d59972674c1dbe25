"""When scheduled functions run: cron expressions with a time zone, and periods.

A time of day that a change of clocks leaves out is taken for the first moment after the gap; one that comes twice counts the
first time. So a daily job runs once a day, every day.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from jiffy.errors import InvalidError

_FIELDS: Final = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SEARCHED_DAYS: Final = 366 * 8 + 1
"""29 February comes at least so often."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields. `weekdays` count from Sunday. As in Vixie cron, when both kinds of days are restricted either will do;
    a field that begins with * does not restrict."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    any_day: bool
    any_weekday: bool

    def next_after(self, moment: float, zone: tzinfo) -> float:
        """Seconds since the epoch of the first time after a moment; InvalidError when there is none."""
        local = datetime.fromtimestamp(moment, zone)
        for offset in range(_SEARCHED_DAYS):
            day = local.date() + timedelta(days=offset)
            if self._includes(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        found = _moment_of(day, time(hour, minute), zone)
                        if found > moment:
                            return found
        raise InvalidError("a schedule that never comes", why="no such day is in the next eight years")

    def _includes(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


@dataclass(frozen=True, slots=True)
class Period:
    """Each part adds to the others. The end of a month stays within it: a month after 31 January is the last of February."""

    months: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.months < 0 or self.seconds < 0 or not (self.months or self.seconds):
            raise InvalidError("a period must be longer than nothing", hint="such as Period(hours=1)")

    def next_after(self, moment: float) -> float:
        """Seconds since the epoch."""
        start = datetime.fromtimestamp(moment, UTC)
        years, month = divmod(start.month - 1 + self.months, 12)
        last = calendar.monthrange(start.year + years, month + 1)[1]
        moved = start.replace(year=start.year + years, month=month + 1, day=min(start.day, last))
        return moved.timestamp() + self.seconds


def parse_cron(text: str) -> Cron:
    """A cron expression of five fields, or one such as @daily. InvalidError says which field is wrong."""
    words = _ALIASES.get(text.strip().lower(), text).split()
    if len(words) != len(_FIELDS):
        raise InvalidError(
            f"the schedule {text!r} has {len(words)} fields",
            why="a cron expression has five",
            hint='such as "0 9 * * 1-5"',
        )
    minutes, hours, days, months, weekdays = (
        _parse_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)
    )
    sundays = tuple(sorted({day % 7 for day in weekdays}))
    return Cron(minutes, hours, days, months, sundays, words[2].startswith("*"), words[4].startswith("*"))


def _parse_field(word: str, name: str, lowest: int, highest: int) -> tuple[int, ...]:
    try:
        values = {value for part in word.split(",") for value in _parse_part(part.lower(), name, lowest, highest)}
    except ValueError as error:
        raise InvalidError(f"{word!r} is no {name} of a schedule", why=str(error)) from error
    return tuple(sorted(values))


def _parse_part(part: str, name: str, lowest: int, highest: int) -> Sequence[int]:
    """`*`, `5`, `1-5`, each with `/step`; a step after a single number goes on to the highest."""
    span, _, step = part.partition("/")
    if "/" in part and (not step.isdigit() or int(step) < 1):
        raise ValueError(f"{step!r} is no step")
    if span == "*":
        first, last = lowest, 6 if name == "day of week" else highest
    else:
        words = span.split("-")
        if len(words) > 2:
            raise ValueError(f"{span!r} is no range")
        first = _parse_number(words[0], name)
        last = _parse_number(words[-1], name) if len(words) == 2 else highest if step else first
    if not lowest <= first <= last <= highest:
        raise ValueError(f"it goes from {lowest} to {highest}")
    return range(first, last + 1, int(step or 1))


def _parse_number(word: str, name: str) -> int:
    names = {"month": _MONTHS, "day of week": _DAYS}.get(name, ())
    if word in names:
        return names.index(word) + (name == "month")
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"{word!r} is no number")
    return int(word)


def _moment_of(day: date, at: time, zone: tzinfo) -> float:
    local = datetime.combine(day, at, zone)
    moment = local.timestamp()
    if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    return _end_of_gap(moment, zone)


def _end_of_gap(moment: float, zone: tzinfo) -> float:
    """The moment of a change of clocks near one that no clock shows, to the minute."""
    before, after = moment - 86400, moment + 86400
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
