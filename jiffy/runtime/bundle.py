"""OCI bundles: what a container may use, see and do, as the runtimes' config.json.

A container's process is root inside, with the capabilities that the field gives by default less those that nothing here
needs (docs/decisions/004); its system calls are those of an allow-list.
"""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jiffy.runtime.cdi import Edits, add_devices
from jiffy.runtime.seccomp import compile_filter, describe_filter

_CAPABILITIES: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "cgroup")
_MOST_FILES: Final = 65536


@dataclass(frozen=True, slots=True)
class BindMount:
    """A file or folder of the host at an absolute path in the container. One that `follows` comes with all that is mounted
    in it, and what is mounted there later appears too."""

    source: Path
    target: str
    read_only: bool = True
    follows: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """`network_namespace` is a path, or empty for a new one with only a loopback. `temporary` are folders in memory, with
    their size in bytes. `devices` are what the Container Device Interface adds. `cgroup` is a path below the hierarchies'
    roots. Limits and sizes of 0 mean none."""

    identifier: str
    root: Path
    argv: tuple[str, ...]
    environment: dict[str, str]
    working_directory: str
    hostname: str
    mounts: tuple[BindMount, ...]
    network_namespace: str
    cgroup: str
    memory_bytes: int = 0
    cpu_millis: int = 0
    pids: int = 4096
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    temporary: tuple[tuple[str, int], ...] = ()
    devices: tuple[Edits, ...] = ()


def write_bundle(spec: ContainerSpec, directory: Path) -> None:
    """Write config.json into a folder."""
    (directory / "config.json").write_text(json.dumps(describe(spec)))


def describe_exec(
    directory: Path,
    argv: Sequence[str],
    environment: Mapping[str, str],
    working_directory: str,
    terminal: tuple[int, int] | None,
) -> dict[str, Any]:
    """A process that joins the container of a bundle, and may do what the container's own may. `terminal`: rows, columns."""
    process: dict[str, Any] = json.loads((directory / "config.json").read_text())["process"]
    variables = dict(entry.split("=", 1) for entry in process["env"]) | dict(environment)
    process["args"] = list(argv)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]
    process["cwd"] = working_directory or process["cwd"]
    if terminal is not None:
        process["terminal"] = True
        process["consoleSize"] = {"height": terminal[0], "width": terminal[1]}
    return process


def describe(spec: ContainerSpec) -> dict[str, Any]:
    """The runtime configuration of a container."""
    described = _describe(spec)
    add_devices(described, spec.devices)
    return described


def _describe(spec: ContainerSpec) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "annotations": _describe_annotations(),
        "root": {"path": str(spec.root), "readonly": False},
        "process": _describe_process(spec),
        "mounts": [
            *_system_mounts(),
            *(_describe_temporary(target, size) for target, size in spec.temporary),
            *map(_describe_mount, spec.mounts),
        ],
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in _NAMESPACES),
                {"type": "network", **({"path": spec.network_namespace} if spec.network_namespace else {})},
            ],
            "cgroupsPath": f"/{spec.cgroup}",
            "resources": _describe_resources(spec),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            **({"rootfsPropagation": "rslave"} if any(mount.follows for mount in spec.mounts) else {}),
            "seccomp": describe_filter(),
        },
    }


def _describe_annotations() -> dict[str, str]:
    compiled = compile_filter()
    return {"run.oci.seccomp_bpf_data": base64.b64encode(compiled).decode()} if compiled is not None else {}


def _describe_process(spec: ContainerSpec) -> dict[str, Any]:
    sets = ("bounding", "effective", "permitted")
    files = _open_files()
    return {
        "terminal": False,
        "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
        "args": list(spec.argv),
        "env": [f"{name}={value}" for name, value in spec.environment.items()],
        "cwd": spec.working_directory,
        "capabilities": {name: list(_CAPABILITIES) for name in sets},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}],
        "noNewPrivileges": True,
        "oomScoreAdj": 500,
    }


def _open_files() -> int:
    """What a container may open, as far as this process may grant it: without CAP_SYS_RESOURCE no limit can be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)


def _describe_mount(mount: BindMount) -> dict[str, Any]:
    kind = ["rbind", "rslave"] if mount.follows else ["bind"]
    options = [*kind, "nosuid", "nodev", "ro" if mount.read_only else "rw"]
    return {"destination": mount.target, "type": "bind", "source": str(mount.source), "options": options}


def _describe_temporary(target: str, size: int) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", *([f"size={size}"] if size else [])]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _system_mounts() -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    mounts = [
        ("/proc", "proc", quiet),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/shm", "tmpfs", [*quiet, "mode=1777"]),
        ("/dev/mqueue", "mqueue", quiet),
        ("/sys", "sysfs", [*quiet, "ro"]),
    ]
    return [{"destination": path, "type": kind, "source": kind, "options": options} for path, kind, options in mounts]


def _describe_resources(spec: ContainerSpec) -> dict[str, Any]:
    described: dict[str, Any] = {
        "devices": [{"allow": False, "access": "rwm"}, *_allowed_devices()],
        "pids": {"limit": spec.pids},
    }
    if spec.memory_bytes:
        described["memory"] = {"limit": spec.memory_bytes}
    if spec.cpu_millis:
        described["cpu"] = {"quota": spec.cpu_millis * 100, "period": 100_000}
    return described


def _allowed_devices() -> list[dict[str, Any]]:
    """null, zero, full, random, urandom, tty, ptmx and the terminals of this container."""
    numbers = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)]
    allowed: list[dict[str, Any]] = [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in numbers
    ]
    return [*allowed, {"allow": True, "type": "c", "major": 136, "access": "rwm"}]
