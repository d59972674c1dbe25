"""What becomes of the inputs of a container that ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jiffy.core.events import ExitReason

LOSSES_ALLOWED = 3
"""Containers that may be lost under one input before it is given up."""

STARTS_ALLOWED = 3
"""Containers of one function that may fail in a row before they are ready, until its waiting inputs are failed."""

_SIGKILL: Final = 9


@dataclass(frozen=True, slots=True)
class Ended:
    """A container's end. `memory_bytes` is its limit; 0 for none. `detail` is the worker's sentence."""

    reason: ExitReason
    exit_code: int
    detail: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Requeue:
    """Run the input again, elsewhere."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Record a failure. `internal`: the platform's fault, not the program's; `timed_out`: a time was up."""

    message: str
    internal: bool
    timed_out: bool = False


def judge_running_input(ended: Ended, losses: int) -> Requeue | Fail:
    """For an input that the container was running. `losses` counts this container."""
    if ended.reason is ExitReason.STOPPED:
        return Requeue()
    if losses < LOSSES_ALLOWED and (_was_killed(ended) or not _is_the_programs(ended)):
        return Requeue()
    if _is_the_programs(ended):
        return Fail(describe(ended, "while it ran this input"), internal=False)
    return Fail(f"{losses} containers in a row were lost with this input: {ended.detail}", internal=True)


def judge_waiting_inputs(ended: Ended, failed_starts: int) -> Fail | None:
    """For the inputs that wait for a container which ended before it was ready. `failed_starts` counts this one."""
    if not is_failed_start(ended):
        return None
    if ended.reason is ExitReason.OUT_OF_MEMORY:
        return Fail(describe(ended, "before it was ready"), internal=False)
    if failed_starts < STARTS_ALLOWED:
        return None
    message = f"{describe(ended, 'before it was ready')} This happened {failed_starts} times in a row."
    return Fail(message, internal=ended.reason is not ExitReason.FINISHED)


def is_failed_start(ended: Ended) -> bool:
    """Whether a container that ended before it was ready says something of its function."""
    return ended.reason not in (ExitReason.STOPPED, ExitReason.LOST)


def _was_killed(ended: Ended) -> bool:
    """By somebody else: no program dies so by a fault of its own, unless it is out of memory."""
    return ended.reason is ExitReason.FINISHED and ended.exit_code == 128 + _SIGKILL


def _is_the_programs(ended: Ended) -> bool:
    return ended.reason in (ExitReason.FINISHED, ExitReason.OUT_OF_MEMORY)


def describe(ended: Ended, when: str) -> str:
    """One sentence for a person."""
    if ended.reason is ExitReason.OUT_OF_MEMORY:
        limit = f"its limit of {ended.memory_bytes // 2**20} MiB" if ended.memory_bytes else "the host's limit"
        return f"The container ran out of memory {when}: it reached {limit}. Raise it with memory=(request, limit)."
    if ended.reason is ExitReason.FINISHED and ended.exit_code > 128:
        return f"The container was killed by signal {ended.exit_code - 128} {when}."
    if ended.reason is ExitReason.FINISHED:
        return f"The container's process exited with code {ended.exit_code} {when}."
    if ended.reason is ExitReason.LAUNCH_FAILED:
        return f"The container could not be launched: {ended.detail}."
    return f"The container was {ended.reason} {when}: {ended.detail}."
