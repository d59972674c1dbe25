"""How many containers a function should have."""

from __future__ import annotations

from dataclasses import dataclass

STARTING_AT_ONCE = 4
"""Containers of one function that may be on their way up together: a short burst is over before more could help."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots`: inputs that one container runs at the same time."""

    minimum: int
    maximum: int
    slots: int


@dataclass(frozen=True, slots=True)
class Supply:
    """Containers that take inputs, and containers that will."""

    ready: int
    starting: int


def containers_wanted(inputs: int, limits: Limits) -> int:
    """Enough slots for every input that waits or runs, within the limits."""
    needed = -(-inputs // limits.slots)
    return max(limits.minimum, min(limits.maximum, needed))


def containers_to_start(inputs: int, supply: Supply, limits: Limits) -> int:
    """How many to launch now. More follow when these are ready and inputs still wait."""
    missing = containers_wanted(inputs, limits) - supply.ready - supply.starting
    return max(0, min(missing, STARTING_AT_ONCE - supply.starting))
