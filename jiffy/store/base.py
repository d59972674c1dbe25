"""What all of the store is written against: SQL that SQLite and PostgreSQL both understand, and the few things in which they
differ.

Parameters are `?`. Rows are read by name. A `work` function runs in one transaction and does nothing but SQL; it may be run
again when the engine asks for that, so it changes nothing outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")


class Row(Protocol):
    def __getitem__(self, name: str, /) -> Any: ...
    def keys(self) -> Iterable[str]: ...


class Cursor(Protocol):
    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """`for_update` and `for_share` end a SELECT whose rows are to stay as they are until the transaction ends;
    `skip_locked` ends one that takes rows which nobody else is taking. `now` is the time by the engine's clock."""

    @property
    def for_update(self) -> str: ...
    @property
    def for_share(self) -> str: ...
    @property
    def skip_locked(self) -> str: ...
    @property
    def now(self) -> str: ...

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor: ...
    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object: ...

    def lock(self, name: str, /) -> None:
        """Until the transaction ends, others that lock the same name wait: so that positions grow in the order in which
        they can be seen."""


Work = Callable[[Connection], T]


class Database(Protocol):
    """Runs work on what is stored."""

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction; durable on return. Raises what `work` raises, and then nothing of it is kept."""
        ...

    async def commit(self, work: Work[T]) -> T:
        """The same, but others may see it on return before it is durable: no later than what is written after it."""
        ...

    async def sync(self) -> None:
        """Until all that was committed is durable."""
        ...

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which reads a few rows, on what is committed."""
        ...

    async def scan(self, work: Work[T]) -> T:
        """The same for work that reads many rows: nothing else waits for it."""
        ...

    def close(self) -> None:
        """Finish what was asked, then close. Idempotent."""
