"""What jiffy may have on a host: to be the same before and after."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


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
        kinds = ("mounts", "links", "tables", "groups", "processes")
        found = [f"{kind}: {name}" for kind in kinds for name in getattr(self, kind) - getattr(before, kind)]
        return [*found, *(["forwarding was changed"] if self.forwarding != before.forwarding else [])]


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
    deadline = time.monotonic() + timeout
    while (found := take_inventory().new_since(before)) and time.monotonic() < deadline:
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
        if any(
            word in (b"jiffy.worker", b"jiffy.fs.daemon", b"jiffy", b"modal._container_entrypoint") for word in words
        ):
            found.append(f"{folder.name}: {b' '.join(words).decode(errors='replace')}")
    return found
