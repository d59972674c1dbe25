"""What the platform tells a worker to do. Names are imperative; a worker answers with events."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Resources:
    """What one container may use. 0 means the worker's default, and no GPU."""

    memory_bytes: int = 0
    cpu_millis: int = 0
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class User:
    """Who a container's process is, in numbers."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A folder at `target` that outlives the container: later ones on the host that name the same cache find it as it was
    left. With `exclusive`, one container has it at a time. `mode` and `owner` are those of a new one."""

    target: str
    name: str
    mode: int = 0o755
    owner: User = User()
    exclusive: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class TemporaryMount:
    """A folder in memory; a `size` of 0 bytes means half of the host's."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume at `target`, as of the index `head`, whose EROFS images are `layers`. What is written there is told to the
    server when it asks, and with `background` every few seconds and at the end. `sub_path`: only what is there of it."""

    volume_id: str
    target: str
    head: str
    layers: tuple[str, ...]
    read_only: bool = False
    background: bool = False
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class BucketMount:
    """What is below `prefix` in a bucket, at `target`. `endpoint`: empty for that of AWS; `credentials` are the variables by
    which AWS's tools have theirs."""

    bucket: str
    target: str
    prefix: str = ""
    endpoint: str = ""
    credentials: dict[str, str] = field(default_factory=dict)
    read_only: bool = False
    requester_pays: bool = False
    path_style: bool = False


@dataclass(frozen=True, slots=True)
class LaunchContainer:
    """Start one container.

    `layers` are digests of EROFS images, bottom first; the worker mounts them as one root.
    `profile` names the list of objects that starts like this one read, empty for none; `record` asks what this one reads.
    `catalogues` name lists of the root's objects in the order of their paths, for a start that nothing is known of;
    `chunk_maps` tell the chunks of its large ones.
    `files` are small files that appear read-only in the container: absolute path -> bytes.
    Without `network` there is only a loopback. With `capture`, what a container that exits with 0 changed of its root is
    kept and told by a ChangeCaptured.
    `{server}` in an environment value becomes the address at which the container reaches the server.
    One that `terminates` is told to end by SIGTERM, as other programs are, and not by SIGINT.
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
    user: User = User()
    caches: tuple[CacheMount, ...] = ()
    temporary: tuple[TemporaryMount, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    buckets: tuple[BucketMount, ...] = ()
    network: bool = True
    capture: bool = False
    terminates: bool = False


@dataclass(frozen=True, slots=True)
class StopContainer:
    """End one container: SIGINT or SIGTERM, then SIGKILL after `grace_seconds`. 0 kills at once."""

    task_id: str
    reason: str
    grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class CommitVolume:
    """Tell what a container wrote to a volume: by VolumeCaptured, if it wrote anything, then by VolumeAnswered."""

    task_id: str
    volume_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ReloadVolume:
    """Have a container see a volume as of another index. What it wrote is told first. Answered by VolumeAnswered."""

    task_id: str
    volume_id: str
    head: str
    layers: tuple[str, ...]
    request_id: str


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """Connect to a port of a container, and carry what comes from there to the server, and back. `channel_id` is a secret:
    who says it is believed. It is of use at once or not at all: it is not told again."""

    task_id: str
    port: int
    channel_id: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal of a size in characters."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class ExecInContainer:
    """Run a command in a container that runs already, beside what it runs, and as that is run but for what is given here.
    What it prints and is told goes by a channel (`jiffy/execs.py`), which is a secret and told once, as of OpenChannel; the
    command ends with it. With a `terminal`, that is its input and output. After `timeout_seconds` it is killed; 0 is never.
    With `joined`, its stderr is its stdout. An empty `working_directory` means the container's."""

    task_id: str
    channel_id: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = ""
    terminal: Terminal | None = None
    timeout_seconds: int = 0
    joined: bool = False


Action = LaunchContainer | StopContainer | CommitVolume | ReloadVolume | OpenChannel | ExecInContainer
