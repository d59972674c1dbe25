"""What a worker tells the platform. Names are in the past tense. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PROTOCOL: Final = 3
"""Of the messages between servers and workers; it grows when one that knows only the last would not understand."""


class ExitReason(StrEnum):
    """Why a container ended."""

    FINISHED = "finished"  # the process ended by itself; see exit_code
    STOPPED = "stopped"  # a StopContainer was obeyed
    OUT_OF_MEMORY = "out of memory"
    LAUNCH_FAILED = "launch failed"
    LOST = "lost"  # the worker that ran it is gone


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where containers reach the server: on ports where the worker's process `process` listens, for gRPC and for HTTP.
    `grpc` and `http` are its descriptors, which a server on the same host borrows to accept there. So containers that
    connect while no server runs wait for the next one."""

    process: int
    grpc: int
    http: int


@dataclass(frozen=True, slots=True)
class WorkerConnected:
    """First message of a connection. `worker_id` is fresh per process. `containers` still run. `protocol` and `version`
    are those of its jiffy. `http_port` is where its containers reach the server by HTTP. `listeners` is None where the
    worker carries the connections of its containers to the server itself. One that is `leaving` takes no more. Those that it
    `succeeds` are dead."""

    worker_id: str
    containers: tuple[str, ...]
    cpu_millis: int
    memory_bytes: int
    http_port: int
    protocol: int = 0
    version: str = ""
    listeners: Listeners | None = None
    labels: tuple[str, ...] = ()
    leaving: bool = False
    gpus: int = 0
    gpu_type: str = ""
    succeeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """Sent every two seconds. `usage`: task id -> thousandths of a CPU since the last report, and bytes of memory without
    what the kernel can drop. `layers`: digests of the EROFS images that are mounted or known there."""

    worker_id: str
    cpu_seconds_used: float
    memory_bytes_free: int
    containers: int
    disk_bytes_free: int = 0
    usage: dict[str, tuple[int, int]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    """The first instruction of the container's process is about to run. `phases`: name -> seconds
    (index, mount, network, runtime), `address`: its IPv4 on the bridge."""

    task_id: str
    address: str
    started_at: float
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartRecorded:
    """The objects that a container's start read, in the order of their first reading: each with the ranges of bytes (start
    and size) that it read of a large one, none for all."""

    task_id: str
    objects: dict[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class LogWritten:
    """A piece of a container's output, at most 64 KiB. `stream` is 1 for stdout, 2 for stderr."""

    task_id: str
    stream: int
    text: str
    written_at: float


@dataclass(frozen=True, slots=True)
class ChangeCaptured:
    """What a container changed of its root, before its end is told. `change` is the digest of an object in the form of
    image/change.py; it and all that it names are in the server's store. `files` and `size` (bytes) of what was written."""

    task_id: str
    change: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class VolumeCaptured:
    """All that a container wrote to a volume since it was mounted as of the index `head`: `change` is as in ChangeCaptured,
    `before` the one that was told last, empty for none. `request_id` is empty when nobody asked."""

    task_id: str
    volume_id: str
    head: str
    change: str
    before: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class VolumeAnswered:
    """An order about a volume was obeyed, or why not."""

    task_id: str
    request_id: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ContainerExited:
    """All of the container's output was reported before this. `exit_code` is 128+N for signal N."""

    task_id: str
    exit_code: int
    reason: ExitReason
    detail: str
    exited_at: float


Event = (
    WorkerConnected
    | WorkerReported
    | ContainerStarted
    | StartRecorded
    | LogWritten
    | ChangeCaptured
    | VolumeCaptured
    | VolumeAnswered
    | ContainerExited
)
