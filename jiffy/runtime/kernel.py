"""What this machine can do for jiffy: probes, each with what was found and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from jiffy.errors import InvalidError, UnsupportedError
from jiffy.fs.mode import Mode
from jiffy.runtime.cgroups import ROOT, Layout, find_layout

OLDEST_KERNEL: Final = (5, 15)
_DATA_ONLY_LOWERS: Final = (6, 5)
_PASSTHROUGH: Final = (6, 9)
_EROFS_FROM_FILE: Final = (6, 12)
_GOOD_FILESYSTEMS: Final = ("ext4", "xfs", "btrfs")
_ENOUGH_BYTES: Final = 5 * 10**9
_SYS_ADMIN: Final = 21

MODE_VARIABLE: Final = "JIFFY_FILESYSTEM"
"""In the environment: the mode to use, whatever the kernel can have."""


class Verdict(StrEnum):
    """`SLOWER`: jiffy works without it, less well. `MISSING`: it does not."""

    OK = "ok"
    SLOWER = "slower"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(data: Path) -> list[Finding]:
    """All findings for a machine that keeps jiffy's data at `data`."""
    release = platform.release()
    probes: list[Callable[[], Finding]] = [
        _probe_root,
        lambda: probe_kernel(release),
        probe_overlay,
        lambda: probe_mode(release),
        lambda: probe_passthrough(release),
        _probe_fuse,
        _probe_cgroups,
        _probe_runtime,
        *(lambda program=program: _probe_program(*program) for program in _PROGRAMS),
        lambda: _probe_filesystem(data),
        lambda: _probe_space(data),
    ]
    return [probe() for probe in probes]


def require_kernel(release: str) -> None:
    """UnsupportedError when a kernel of this release cannot run containers of this version of jiffy."""
    for finding in (probe_kernel(release), probe_overlay()):
        if finding.verdict is Verdict.MISSING:
            raise UnsupportedError(f"this kernel is too old: {finding.found}", hint=finding.advice)


def read_release(release: str) -> tuple[int, int]:
    """The first two numbers of a release such as 6.1.0-13-amd64."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def probe_kernel(release: str) -> Finding:
    if read_release(release) < OLDEST_KERNEL:
        return Finding("kernel", Verdict.MISSING, f"Linux {release}", "jiffy needs Linux 5.15 or newer")
    return Finding("kernel", Verdict.OK, f"Linux {release}")


def probe_overlay() -> Finding:
    if "overlay" not in _filesystems():
        return Finding("overlayfs", Verdict.MISSING, "the kernel has none", "modprobe overlay")
    return Finding("overlayfs", Verdict.OK, "there")


def probe_mode(release: str) -> Finding:
    """Which of the modes of the lazy filesystem the kernel can have, or the environment asks for."""
    name = "lazy filesystem"

    def plain(why: str, advice: str) -> Finding:
        return Finding(name, Verdict.SLOWER, f"{Mode.PLAIN} FUSE: {why}", advice)

    if os.environ.get(MODE_VARIABLE) == Mode.PLAIN:
        return plain(f"{MODE_VARIABLE} says so", f"unset {MODE_VARIABLE}")
    if read_release(release) < _DATA_ONLY_LOWERS:
        advice = "Linux 6.5 and newer can, and need no FUSE for names and stats"
        return plain(f"Linux {release} cannot join images with objects", advice)
    if "erofs" not in _filesystems():
        return plain("the kernel has no EROFS", "modprobe erofs")
    how = "files" if read_release(release) >= _EROFS_FROM_FILE else "loop devices"
    return Finding(name, Verdict.OK, f"{Mode.LAYERED}: EROFS from {how}, objects, FUSE for what is absent")


def choose_mode() -> Mode:
    """For this kernel. InvalidError when the environment asks for no mode that there is."""
    wanted = os.environ.get(MODE_VARIABLE, "")
    if wanted not in ("", *Mode):
        raise InvalidError(f"{MODE_VARIABLE} is {wanted!r}", hint=f"unset it, or use one of {', '.join(Mode)}")
    is_layered = probe_mode(platform.release()).verdict is Verdict.OK
    return Mode.LAYERED if is_layered or wanted == Mode.LAYERED else Mode.PLAIN


def probe_passthrough(release: str) -> Finding:
    name = "FUSE passthrough"
    if read_release(release) < _PASSTHROUGH:
        return Finding(name, Verdict.SLOWER, "the first reads of an object go through jiffy", "Linux 6.9 passes them")
    return Finding(name, Verdict.OK, "there")


def _filesystems() -> set[str]:
    """Those the kernel has now, and those it can load."""
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    modules = Path("/lib/modules") / platform.release() / "kernel/fs"
    loadable = {"overlay": modules / "overlayfs", "erofs": modules / "erofs", "fuse": modules / "fuse"}
    return known | {name for name, folder in loadable.items() if folder.exists()}


def _probe_root() -> Finding:
    if os.geteuid() != 0:
        return Finding("root", Verdict.MISSING, f"user {os.geteuid()}", "a worker needs root; the server does not")
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.M)
    if capabilities is None or not int(capabilities[1], 16) >> _SYS_ADMIN & 1:
        return Finding("root", Verdict.MISSING, "root without CAP_SYS_ADMIN", "run outside of a container")
    return Finding("root", Verdict.OK, "with CAP_SYS_ADMIN")


def _probe_fuse() -> Finding:
    if not Path("/dev/fuse").exists():
        return Finding("/dev/fuse", Verdict.MISSING, "not there", "modprobe fuse")
    return Finding("/dev/fuse", Verdict.OK, "there")


def _probe_cgroups() -> Finding:
    layout = find_layout()
    controllers = (ROOT / "cgroup.controllers").read_text().split() if layout is Layout.V2 else _v1_controllers()
    missing = [name for name in ("memory", "cpu", "pids") if name not in controllers]
    if missing:
        advice = "turn them on for this machine; limits cannot be kept without"
        return Finding("control groups", Verdict.MISSING, f"{layout} without {', '.join(missing)}", advice)
    return Finding("control groups", Verdict.OK, f"{layout} with memory, cpu and pids")


def _v1_controllers() -> list[str]:
    return [name for folder in ROOT.iterdir() for name in folder.name.split(",")]


def _probe_runtime() -> Finding:
    for name, verdict in (("crun", Verdict.OK), ("runc", Verdict.SLOWER)):
        if (program := shutil.which(name)) is not None:
            output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            advice = "" if verdict is Verdict.OK else "crun starts containers faster: apt-get install crun"
            return Finding("OCI runtime", verdict, (output.splitlines() or [name])[0], advice)
    return Finding("OCI runtime", Verdict.MISSING, "neither crun nor runc", "apt-get install crun")


_PROGRAMS: Final = (
    ("ip", "iproute2", Verdict.MISSING),
    ("nft", "nftables", Verdict.MISSING),
    ("mmdebstrap", "mmdebstrap", Verdict.SLOWER),
    ("rclone", "rclone fuse3: functions can have no buckets", Verdict.SLOWER),
)


def _probe_program(program: str, package: str, otherwise: Verdict) -> Finding:
    if (path := shutil.which(program)) is not None:
        return Finding(program, Verdict.OK, path)
    return Finding(program, otherwise, "not installed", f"apt-get install {package}")


def _probe_filesystem(data: Path) -> Finding:
    kind = filesystem_of(data)
    if kind not in _GOOD_FILESYSTEMS:
        advice = f"keep the data directory on {', '.join(_GOOD_FILESYSTEMS)}"
        return Finding("data directory", Verdict.MISSING, f"{data} is on {kind}", advice)
    return Finding("data directory", Verdict.OK, f"{data} on {kind}")


def filesystem_of(path: Path) -> str:
    """The kind of the filesystem that holds a path, or will."""
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    device = existing.stat().st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == numbers:
            return rest.split()[0]
    command = ["stat", "--file-system", "--format=%T", str(existing)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _probe_space(data: Path) -> Finding:
    existing = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    verdict = Verdict.OK if free >= _ENOUGH_BYTES else Verdict.SLOWER
    return Finding("free space", verdict, f"{free / 1e9:.0f} GB", "" if verdict is Verdict.OK else "images need room")
