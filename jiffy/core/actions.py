"""What the platform tells a worker to do. Names are imperative; a worker answers with events."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Resources:
    """What one container may use. 0 means the worker's default."""

    memory_bytes: int = 0
    cpu_millis: int = 0


@dataclass(frozen=True, slots=True)
class LaunchContainer:
    """Start one container.

    `layers` are digests of EROFS images, bottom first; the worker mounts them as one root.
    `profile` names the list of objects that starts like this one read, empty for none; `record` asks what this one reads.
    `catalogues` name lists of the root's objects in the order of their paths, for a start that nothing is known of;
    `chunk_maps` tell the chunks of its large ones.
    `files` are small files that appear read-only in the container: absolute path -> bytes.
    `{server}` in an environment value becomes the address at which the container reaches the server.
    """

    task_id: str
    layers: tuple[str, ...]
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    files: dict[str, bytes] = field(default_factory=dict)
    resources: Resources = Resources()
    profile: str = ""
    catalogues: tuple[str, ...] = ()
    chunk_maps: tuple[str, ...] = ()
    record: bool = False


@dataclass(frozen=True, slots=True)
class StopContainer:
    """End one container: SIGINT, then SIGKILL after `grace_seconds`. 0 kills at once."""

    task_id: str
    reason: str
    grace_seconds: float = 30.0


Action = LaunchContainer | StopContainer
