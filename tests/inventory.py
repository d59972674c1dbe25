"""What jiffy may have on a host: to be the same before and after."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PROGRAMS = (
    b"jiffy",
    b"jiffy.server",
    b"jiffy.server.gate",
    b"jiffy.worker",
    b"jiffy.fs.daemon",
    b"modal._container_entrypoint",
    b"rclone",
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Names of everything of jiffy, by kind."""

    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    groups: frozenset[str]
    processes: frozenset[str]
    forwarding: str

    def new_since(self, before: Inventory) -> list[str]:
        """What is here and was not before; other instances of the host may have ended things meanwhile."""
        found = [name for name in self._names() if name not in set(before._names())]
        return [*found, *(["forwarding was changed"] if self.forwarding != before.forwarding else [])]

    def about(self, *names: str) -> list[str]:
        """What has one of these in its name: an instance, a folder."""
        return [found for found in self._names() if any(name in found for name in names)]

    def _names(self) -> list[str]:
        kinds = ("mounts", "links", "tables", "groups", "processes")
        return [f"{kind}: {name}" for kind in kinds for name in getattr(self, kind)]


def take_inventory() -> Inventory:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if "jiffy" in line]
    return Inventory(
        mounts=frozenset(mounts),
        links=frozenset(path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("jiffy")),
        tables=frozenset(line for line in _output("nft", "list", "tables").splitlines() if "jiffy" in line),
        groups=frozenset(_groups()),
        processes=frozenset(_processes()),
        forwarding=Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(),
    )


def await_nothing_new(before: Inventory, timeout: float = 15) -> list[str]:
    """What is left since then: at once when it is nothing, else after the timeout."""
    return _await_nothing(lambda: take_inventory().new_since(before), timeout)


def await_nothing_about(*names: str, timeout: float = 15) -> list[str]:
    """What has one of these in its name and does not go away: other tests run beside this one."""
    return _await_nothing(lambda: take_inventory().about(*names), timeout)


def _await_nothing(look: Callable[[], list[str]], timeout: float) -> list[str]:
    deadline = time.monotonic() + timeout
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _groups() -> list[str]:
    root = Path("/sys/fs/cgroup")
    return [str(path) for pattern in ("jiffy-*", "*/jiffy-*") for path in root.glob(pattern)]


def _processes() -> list[str]:
    """Servers, workers, their daemons, and what runs in containers; not pytest, which is of jiffy too."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word in _PROGRAMS for word in words):
            found.append(f"{folder.name}: {b' '.join(words).decode(errors='replace')}")
    return found
