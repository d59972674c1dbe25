"""Attempts at inputs: who holds one, and whose result counts.

An input waits (no holder), is held by a container, or is finished. The token of an attempt is its holder's id, which no
other container ever has, with the number of the retry. A result under any other token is refused: it comes from a
container that was given up, whose input may run elsewhere by now. So an input ends in exactly one output.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """An input as it stands. `retry_count` is the number of this try, the first is 0."""

    holder: str | None
    retry_count: int
    is_finished: bool


def accepts(attempt: Attempt, holder: str | None, retry_count: int) -> bool:
    """Whether a result is recorded. The platform's own, for an input that nobody holds, has no holder."""
    return not attempt.is_finished and attempt.holder == holder and attempt.retry_count == retry_count


def next_retry(attempt: Attempt, wanted: int | None) -> int | None:
    """The number under which a finished input is tried again; None when there is nothing to do. `wanted` is what the caller
    calls it: the same request that comes twice makes one retry."""
    if not attempt.is_finished:
        return None
    if wanted is None:
        return attempt.retry_count + 1
    return wanted if wanted > attempt.retry_count else None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often the platform itself tries a failed input again, and after how many seconds."""

    retries: int
    initial: float
    coefficient: float
    longest: float

    def delay(self, retry_count: int) -> float | None:
        """Seconds until the next try of one that has failed for the `retry_count`-th time since the first; None when it has
        had all."""
        if retry_count >= self.retries:
            return None
        return float(min(self.longest, self.initial * self.coefficient**retry_count))
