"""What the scheduler decides. Names are imperative; whoever carries them out answers with facts."""

from __future__ import annotations

from dataclasses import dataclass

from jiffy.core.aftermath import Ended, Fail


@dataclass(frozen=True, slots=True)
class Launch:
    """Record a container, then have the worker start it."""

    task_id: str
    function_id: str
    app_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Tell a waiting container that there is nothing more to come."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Have the worker end a container, by force after `grace_seconds`."""

    task_id: str
    worker_id: str
    reason: str
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Settle:
    """Record a container's end: of the inputs that it held, each fails or waits again."""

    task_id: str
    worker_id: str
    ended: Ended


@dataclass(frozen=True, slots=True)
class FailWaiting:
    """Record a failure for every input of a function that no container holds."""

    function_id: str
    failure: Fail


@dataclass(frozen=True, slots=True)
class TimeOut:
    """Record that an input's time is up."""

    task_id: str
    input_id: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Say to whoever watches why a function's inputs wait."""

    function_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CountDemand:
    """Count the inputs of a function that are not done, and answer with DemandCounted."""

    function_id: str


@dataclass(frozen=True, slots=True)
class CallContainers:
    """Have the containers of a function that wait look for inputs: some came up of which nobody tells."""

    function_id: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Have nothing to do with a worker any more, unless it introduces itself again."""

    worker_id: str


Order = Launch | Retire | Stop | Settle | FailWaiting | TimeOut | Explain | CountDemand | CallContainers | Fence
