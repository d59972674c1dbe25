"""Inputs of functions as those look at them who want to know what ran when, where, for how long, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jiffy.store.base import Connection, Database

_OF_FUNCTION = """inputs JOIN calls ON calls.call_id=inputs.call_id WHERE calls.function_id IN
    (SELECT function_id FROM functions WHERE function_id=? OR (base_id=? AND base_id<>''))"""


@dataclass(frozen=True, slots=True)
class PastInput:
    """`body` is a serialized FunctionInput, `output` a serialized FunctionGetOutputsItem, None while there is none.
    `asked_at` and `ready_at`: when the container that has it was asked for, and when it first wanted inputs."""

    position: int
    call_id: str
    body: bytes
    created_at: float
    task_id: str | None
    claimed_at: float | None
    finished_at: float | None
    output: bytes | None
    asked_at: float | None
    ready_at: float | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose inputs: those of a function, or, `with_variants`, also those of all of its variants."""

    function_id: str
    with_variants: bool

    @property
    def values(self) -> tuple[str, str]:
        return self.function_id, self.function_id if self.with_variants else ""


class InputHistory:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self, scope: Scope, limit: int) -> list[int]:
        """The positions of the newest inputs, the newest first."""
        return await self._positions(f"{_OF_FUNCTION} ORDER BY inputs.position DESC LIMIT ?", *scope.values, limit)

    async def between(self, scope: Scope, since: float, until: float, limit: int) -> list[int]:
        """The positions of inputs that came in a time, which does not include its end; the oldest first."""
        return await self._positions(
            f"""{_OF_FUNCTION} AND calls.created_at<? AND inputs.created_at>=? AND inputs.created_at<?
            ORDER BY inputs.created_at, inputs.position LIMIT ?""",
            *scope.values,
            until,
            since,
            until,
            limit,
        )

    async def count(self, scope: Scope, since: float, until: float, seconds: int) -> dict[int, int]:
        """Inputs that came in a time: start of a stretch of so many seconds -> how many. Stretches begin at multiples."""

        def work(connection: Connection) -> dict[int, int]:
            rows = connection.execute(
                f"""SELECT floor(inputs.created_at / ?) * ? AS start, count(*) AS inputs FROM {_OF_FUNCTION}
                AND calls.created_at<? AND inputs.created_at>=? AND inputs.created_at<? GROUP BY start ORDER BY start""",
                (seconds, seconds, *scope.values, until, since, until),
            )
            return {int(row["start"]): row["inputs"] for row in rows}

        return await self._database.scan(work)

    async def get(self, positions: Sequence[int]) -> list[PastInput]:
        """In no order; those that were dropped meanwhile are not there."""

        def work(connection: Connection) -> list[PastInput]:
            rows = connection.execute(
                f"""SELECT inputs.position, inputs.call_id, inputs.body, inputs.created_at, inputs.task_id,
                inputs.claimed_at, inputs.finished_at, outputs.body AS output, tasks.created_at AS asked_at,
                tasks.ready_at FROM inputs LEFT JOIN outputs ON outputs.input_id=inputs.input_id
                LEFT JOIN tasks ON tasks.task_id=inputs.task_id
                WHERE inputs.position IN ({",".join("?" * len(positions))})""",
                tuple(positions),
            )
            return [PastInput(**row) for row in rows]

        return await self._database.scan(work)

    async def _positions(self, condition: str, *values: object) -> list[int]:
        def work(connection: Connection) -> list[int]:
            rows = connection.execute(f"SELECT inputs.position FROM {condition}", values)
            return [row["position"] for row in rows]

        return await self._database.scan(work)
