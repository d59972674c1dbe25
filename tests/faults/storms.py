"""Kills at random, from a number that says which and when: of the server, the worker, the lazy filesystem, containers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass
class Target:
    """Something of which one process is killed at a time. `find` gives those that run now."""

    name: str
    find: Callable[[], list[int]]


@dataclass
class Storm:
    """`count` gives the outputs that are recorded so far."""

    targets: list[Target]
    count: Callable[[], int]
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    resumed: list[tuple[float, str]] = field(default_factory=list)

    def rage(self, seconds: float, expected: int) -> None:
        """Kill until the time is over or all outputs are there."""
        random = Random(self.seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.count() < expected:
            target = random.choice(self.targets)
            victims = target.find()
            if victims:
                _kill(random.choice(victims))
                self.kills[target.name] += 1
                self._watch(target.name, expected)
            time.sleep(random.uniform(0.3, 2.5))

    def await_all(self, expected: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.count() < expected:
            assert time.monotonic() < deadline, f"{self.count()} of {expected} outputs; {self.describe()}"
            time.sleep(0.2)

    def describe(self) -> str:
        slowest = sorted(self.resumed, reverse=True)[:5]
        kills = ", ".join(f"{number} {name}" for name, number in sorted(self.kills.items()))
        gaps = ", ".join(f"{gap:.1f} s ({name})" for gap, name in slowest)
        soon = sum(gap <= 5 for gap, _ in self.resumed)
        return f"seed {self.seed}; killed: {kills}; on within 5 s: {soon} of {len(self.resumed)}; slowest: {gaps}"

    def _watch(self, name: str, expected: int) -> None:
        """Until the next output, for a while."""
        began, before = time.monotonic(), self.count()
        while self.count() == before < expected and time.monotonic() - began < 30:
            time.sleep(0.05)
        self.resumed.append((time.monotonic() - began, name))


def processes_with(*words: str) -> list[int]:
    """Processes whose command line has all of the words."""
    return [pid for pid, command in _commands() if all(word in command for word in words)]


def container_processes(containers: Path) -> list[int]:
    """Processes that run in the containers of a data directory."""
    return processes_of([folder.name for folder in containers.iterdir()] if containers.exists() else [])


def processes_of(tasks: list[str]) -> list[int]:
    """Processes that run in containers with these ids."""
    found = []
    for pid, _ in _commands():
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue
        if any(task in groups for task in tasks):
            found.append(pid)
    return found


def _commands() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
