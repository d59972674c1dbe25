"""What the scheduler is told. Names are in the past tense; times are seconds of the scheduler's clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from jiffy.core.aftermath import Ended
from jiffy.core.placement import Room
from jiffy.core.pools import Settings


@dataclass(frozen=True, slots=True)
class FunctionDefined:
    """Its next container follows these settings, has these layers, and needs a worker with one of each of these labels."""

    function_id: str
    app_id: str
    settings: Settings
    layers: tuple[str, ...] = ()
    labels: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionRolledOver:
    """Its containers are to be replaced; what they run they finish."""

    function_id: str


@dataclass(frozen=True, slots=True)
class AppStopped:
    """All of its containers are to end."""

    app_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class InputsArrived:
    """Inputs wait, and are in the store."""

    function_id: str
    count: int


@dataclass(frozen=True, slots=True)
class DemandCounted:
    """The answer to CountDemand. `oldest_seconds`: how long the first of those that wait has waited. `later`: seconds until
    an input comes up that is to be tried again; None without any."""

    function_id: str
    waiting: int
    running: int
    oldest_seconds: float = 0.0
    later: float | None = None


@dataclass(frozen=True, slots=True)
class InputsTaken:
    """A container was given inputs: id -> when its time is up."""

    task_id: str
    deadlines: dict[str, float]


@dataclass(frozen=True, slots=True)
class InputsEnded:
    """Inputs of a container are done, whatever the result; they ran for `seconds` on average, 0 when that is not known."""

    task_id: str
    input_ids: tuple[str, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker connected, with containers that still run there. Those that it `succeeds` are dead."""

    room: Room
    containers: tuple[str, ...]
    succeeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerExpected:
    """A worker of an earlier server: it comes back soon, or is lost."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerWasHeard:
    """A report. `usage`: task id -> CPU in thousandths and memory in bytes."""

    room: Room
    usage: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerDisconnected:
    """Its connection is closed; `for_good`: it said that it does not come back."""

    worker_id: str
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class ContainerRestored:
    """A container of an earlier server, which may still run."""

    task_id: str
    function_id: str
    worker_id: str
    ready: bool
    deadlines: dict[str, float]


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    """Its process runs."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ContainerAsked:
    """It asks for inputs: it is ready."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ContainerRested:
    """It has waited for an input as long as its function's scaledown window."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ContainerBeat:
    """A sign of life from its process."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ContainerBrokeDown:
    """The program could not be set up; what waits for it was failed with its error."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ContainerUnwanted:
    """What it does is not wanted any more."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ContainerSpared:
    """It is to end once it has finished what it runs."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ContainerEnded:
    task_id: str
    ended: Ended


@dataclass(frozen=True, slots=True)
class ContainerSettled:
    """Its end is recorded, and the inputs that it held are with others or done."""

    task_id: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Something may be due."""


Fact = (
    FunctionDefined
    | FunctionRolledOver
    | AppStopped
    | InputsArrived
    | DemandCounted
    | InputsTaken
    | InputsEnded
    | WorkerJoined
    | WorkerExpected
    | WorkerWasHeard
    | WorkerDisconnected
    | ContainerRestored
    | ContainerStarted
    | ContainerAsked
    | ContainerRested
    | ContainerBeat
    | ContainerBrokeDown
    | ContainerUnwanted
    | ContainerSpared
    | ContainerEnded
    | ContainerSettled
    | TimePassed
)
