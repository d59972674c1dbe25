"""Scheduled functions: each firing is a call of its own, made once however often the server dies meanwhile.

The id of a firing's call follows from the function and the time, so a firing that was recorded is not made again. What
should have come while no server ran comes once when one is back.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from modal_proto import api_pb2

from jiffy.core.schedules import Cron, Period, parse_cron
from jiffy.errors import InvalidError, JiffyError
from jiffy.identifiers import derived_id
from jiffy.server.scheduler import Scheduler
from jiffy.store.calls import Call
from jiffy.store.schedules import Firing
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_LONGEST_SLEEP: Final = 30.0
_NO_ARGUMENTS: Final = pickle.dumps(((), {}), protocol=4)


def next_firing(schedule: api_pb2.Schedule, moment: float) -> float:
    """Seconds since the epoch. InvalidError for a schedule that cannot be."""
    if schedule.HasField("cron"):
        cron, zone = parse_cron(schedule.cron.cron_string), _zone(schedule.cron.timezone)
        return _next_of_cron(cron, zone, moment)
    return _period(schedule.period).next_after(moment)


def _next_of_cron(cron: Cron, zone: ZoneInfo, moment: float) -> float:
    return cron.next_after(moment, zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidError(f"{name!r} is no time zone", hint="such as Europe/Berlin") from error


def _period(period: api_pb2.Schedule.Period) -> Period:
    days = period.days + 7 * period.weeks
    seconds = period.seconds + 60 * period.minutes + 3600 * period.hours + 86400 * days
    return Period(period.months + 12 * period.years, seconds)


class Schedules:
    def __init__(self, stores: Stores, scheduler: Scheduler) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._changed = asyncio.Event()

    async def set(self, app_id: str, function_ids: list[str]) -> None:
        """An app's functions are these now. One whose schedule is as it was keeps its next time."""
        known = {firing.function_id: firing for firing in await self._stores.schedules.of_app(app_id)}
        wanted = []
        for function_id in function_ids:
            definition = (await self._scheduler.function(function_id)).definition
            if not definition.HasField("schedule"):
                continue
            body = definition.schedule.SerializeToString(deterministic=True)
            before = known.get(function_id)
            if before is not None and before.schedule == body:
                wanted.append(before)
            else:
                wanted.append(Firing(function_id, app_id, body, next_firing(definition.schedule, time.time())))
        await self._stores.schedules.replace(app_id, wanted)
        self._changed.set()

    async def run_forever(self) -> None:
        while True:
            try:
                await self._fire_due()
            except JiffyError as error:
                logger.error("schedules fire later: %s", error)
            self._changed.clear()
            try:
                async with asyncio.timeout(await self._pause()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _pause(self) -> float:
        try:
            first = await self._stores.schedules.first()
        except JiffyError:
            return 1.0
        return _LONGEST_SLEEP if first is None else min(_LONGEST_SLEEP, max(0.0, first - time.time()))

    async def _fire_due(self) -> None:
        for firing in await self._stores.schedules.due(time.time()):
            call_id = derived_id("fc", firing.function_id, str(firing.next_at))
            call = Call(
                call_id,
                firing.function_id,
                firing.app_id,
                api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC,
                None,
            )
            entry = api_pb2.FunctionInput(args=_NO_ARGUMENTS, data_format=api_pb2.DATA_FORMAT_PICKLE)
            await self._stores.calls.add(call, [(0, entry.SerializeToString())])
            schedule = api_pb2.Schedule.FromString(firing.schedule)
            await self._stores.schedules.move(firing, next_firing(schedule, time.time()))
            await self._scheduler.add_demand(firing.function_id, 1)
