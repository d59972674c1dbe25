"""Machines that come and go with what is wanted. The decision is core/sizing.py's; here it is asked for and carried out.

What was started is in the store before the provider is asked: a server that dies in between leaves a row whose machine
never runs, which is seen, or a machine that no row has, which is taken down.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jiffy.core.placement import Need, Room
from jiffy.core.sizing import Buy, Machine, Plan, Situation, Wanted, cost, plan
from jiffy.errors import ExhaustedError, JiffyError, NotFoundError
from jiffy.fleet.base import MACHINE_LABEL, Join, Kind, Provider, new_machine_id
from jiffy.fleet.settings import FleetSettings
from jiffy.store.machines import Machines, StoredMachine
from jiffy.store.tokens import TokenKind, Tokens

logger = logging.getLogger(__name__)

_ROUND_SECONDS: Final = 1.0
_REST_SECONDS: Final = 300.0
"""How long a kind of machine of which there are none is not asked for."""


class Workforce(Protocol):
    """The workers, as far as a fleet must know them."""

    def rooms(self) -> Iterable[tuple[Room, bool]]:
        """Each, and whether it is busy."""
        ...

    def left(self) -> Need: ...
    def expect(self, rooms: Sequence[Room], obstacle: str) -> None: ...


@dataclass(slots=True)
class _Seen:
    """What is known of a machine beside its row. `idle_since` is a time of the wall clock."""

    joined: bool = False
    idle_since: float | None = None
    appeared: bool = False


class Fleet:
    """`wanted` gives the containers for which there is no room; `servers` are where machines join, `pin` is the fingerprint
    of the certificate there. `buy` chooses machines."""

    def __init__(
        self,
        settings: FleetSettings,
        provider: Provider,
        machines: Machines,
        tokens: Tokens,
        workforce: Workforce,
        wanted: Callable[[], Sequence[Wanted]],
        servers: tuple[str, ...],
        pin: str,
        buy: Buy,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._machines = machines
        self._tokens = tokens
        self._workforce = workforce
        self._wanted = wanted
        self._servers = servers
        self._pin = pin
        self._buy = buy
        self._kinds = settings.kinds()
        self._seen: dict[str, _Seen] = {}
        self._resting: dict[str, float] = {}
        self._rooms = [_room(kind) for kind in self._kinds.values()]
        workforce.expect(self._rooms, "")
        self._look_at = 0.0
        self._held_back = ""
        self._trouble = ""

    async def run_forever(self) -> None:
        while True:
            try:
                await self.go_round()
                self._trouble = ""
            except JiffyError as error:
                logger.error("the fleet: %s", error)
                self._trouble = str(error)
            await asyncio.sleep(_ROUND_SECONDS)

    async def close(self) -> None:
        """Machines stay: another server may lead them. Without any they end by themselves."""
        await self._provider.close()

    async def go_round(self) -> None:
        """Look, decide, do."""
        now = time.time()
        rows = await self._machines.since(_midnight(now))
        if now >= self._look_at:
            self._look_at = now + self._provider.look_seconds
            rows = await self._compare(rows, await self._provider.running())
        live = [row for row in rows if row.ended_at is None]
        self._note_workers([row.machine_id for row in live], now)
        decided = await self._decide(live, _spent(rows, now), now)
        self._held_back = decided.held_back
        self._workforce.expect(self._rooms, decided.held_back)
        for machine_id, reason in decided.end.items():
            await self._end(machine_id, reason)
        for name, count in decided.start.items():
            for _ in range(count):
                await self._start(self._kinds[name])

    async def describe(self) -> dict[str, Any]:
        """For people: the machines of today, what they cost, and what keeps others from being started."""
        now = time.time()
        rows = await self._machines.since(_midnight(now))
        live = [row for row in rows if row.ended_at is None]
        return {
            "provider": self._settings.provider,
            "maximum": self._settings.maximum,
            "machines": [self._describe(row) for row in rows],
            "hourly": sum(row.price for row in live),
            "spent_today": _spent(rows, now),
            "wanted": sum(each.count for each in self._wanted()),
            "held_back": self._held_back,
            "trouble": self._trouble,
        }

    def _describe(self, row: StoredMachine) -> dict[str, Any]:
        seen = self._seen.get(row.machine_id, _Seen())
        state = "ended" if row.ended_at is not None else "starting"
        if state == "starting" and seen.joined:
            state = "busy" if seen.idle_since is None else "idle"
        return {
            "machine_id": row.machine_id,
            "offer": row.offer,
            "state": state,
            "price": row.price,
            "started_at": row.started_at,
            "ended_at": row.ended_at,
            "reason": row.reason,
        }

    async def _compare(self, rows: list[StoredMachine], running: Collection[str]) -> list[StoredMachine]:
        """What the provider has with what is known: a machine may have been taken away, or be nobody's."""
        now, known = time.time(), {row.machine_id for row in rows if row.ended_at is None}
        for row in rows:
            seen = self._seen.setdefault(row.machine_id, _Seen())
            if row.machine_id in running:
                seen.appeared = True
            elif row.ended_at is None and (seen.appeared or now - row.started_at > self._provider.appears_seconds):
                await self._note_end(row.machine_id, "it is gone")
                known.discard(row.machine_id)
        for machine_id in running:
            if machine_id not in known:
                logger.warning("machine %s is nobody's", machine_id)
                await self._provider.end(machine_id)
        return await self._machines.since(_midnight(now)) if len(known) < len(rows) else rows

    def _note_workers(self, live: list[str], now: float) -> None:
        busy = {machine_id: is_busy for room, is_busy in self._workforce.rooms() if (machine_id := _machine_of(room))}
        self._seen = {machine_id: self._seen.get(machine_id, _Seen()) for machine_id in live}
        for machine_id, seen in self._seen.items():
            if machine_id not in busy:
                seen.idle_since = None
                continue
            seen.joined = True
            seen.idle_since = None if busy[machine_id] else seen.idle_since or now

    async def _decide(self, live: list[StoredMachine], spent: float, now: float) -> Plan:
        """In a thread: it may take a while to choose."""
        machines = [self._machine(row) for row in live if row.offer in self._kinds]
        offers = [kind.offer for name, kind in self._kinds.items() if self._resting.get(name, 0.0) < now]
        situation = Situation(now, list(self._wanted()), machines, self._workforce.left(), spent)
        return await asyncio.to_thread(plan, situation, offers, self._settings.bounds(), self._buy)

    def _machine(self, row: StoredMachine) -> Machine:
        seen = self._seen[row.machine_id]
        return Machine(row.machine_id, self._kinds[row.offer].offer, row.started_at, seen.joined, seen.idle_since)

    async def _start(self, kind: Kind) -> None:
        machine_id, secret = new_machine_id(), secrets.token_hex(22)
        logger.info("machine %s is started: %s", machine_id, kind.offer.name)
        await self._machines.add(machine_id, kind.offer.name, kind.offer.price)
        self._seen[machine_id] = _Seen()
        await self._tokens.add(_token_id(machine_id), secret, TokenKind.WORKER)
        join = Join(
            servers=self._servers,
            token=f"{_token_id(machine_id)}:{secret}:{self._pin}",
            labels=(f"{MACHINE_LABEL}={machine_id}", *sorted(kind.offer.labels)),
            orphan_seconds=self._settings.orphan_seconds,
        )
        try:
            await self._provider.start(machine_id, kind, join)
        except JiffyError as error:
            await self._note_end(machine_id, f"it was not started: {error}")
            if isinstance(error, ExhaustedError):
                self._resting[kind.offer.name] = time.time() + _REST_SECONDS
            raise

    async def _end(self, machine_id: str, reason: str) -> None:
        await self._provider.end(machine_id)
        await self._note_end(machine_id, reason)

    async def _note_end(self, machine_id: str, reason: str) -> None:
        """Nobody joins with its token any more."""
        logger.info("machine %s has ended: %s", machine_id, reason)
        await self._tokens.revoke(_token_id(machine_id))
        await self._machines.end(machine_id, reason)


async def no_fleet() -> dict[str, Any]:
    """Of a server without one."""
    raise NotFoundError("this server has no fleet", hint="start it with --fleet FILE")


def _spent(rows: Sequence[StoredMachine], now: float) -> float:
    bills = [(row.price, row.started_at, row.ended_at or now) for row in rows]
    return cost(bills, _midnight(now), now)


def _midnight(now: float) -> float:
    """Of today, in UTC."""
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return today.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _token_id(machine_id: str) -> str:
    return f"wk-{machine_id}"


def _machine_of(room: Room) -> str:
    names = (label.partition("=") for label in room.labels)
    return next((value for name, _, value in names if name == MACHINE_LABEL), "")


def _room(kind: Kind) -> Room:
    offer = kind.offer
    return Room(
        worker_id=offer.name,
        cpu_millis=offer.cpu_millis,
        memory_bytes=offer.memory_bytes,
        gpus=offer.gpus,
        gpu_type=offer.gpu_type,
        labels=offer.labels,
    )
