"""jiffy's promises in simulated worlds, and proof that the simulation finds what breaks them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import jiffy
from tests.sim.campaign import ROOT, find

SEEDS = 500
JOBS = 2

pytestmark = pytest.mark.sim


def test_every_promise_holds_in_five_hundred_worlds() -> None:
    findings = [found for found in find(0, SEEDS, JOBS) if found is not None]
    assert not findings, "\n\n".join(f"seed {found.seed}: {found.what}\n{found.trace}" for found in findings)


def test_a_seed_gives_the_same_world_to_the_byte() -> None:
    told = [run_jiffy("sim", "--seed", "7").stdout for _ in range(2)]
    assert told[0] == told[1]
    assert "server starts" in told[0]


def test_the_command_counts_its_worlds_and_says_what_it_found() -> None:
    run = run_jiffy("sim", "--seeds", "4", "--first", "20", "--json")
    assert json.loads(run.stdout) == {"seeds": 4, "findings": []}


def run_jiffy(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jiffy", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60)


@dataclass(frozen=True)
class Bug:
    """A line of core, and what somebody might have written instead."""

    module: str
    right: str
    wrong: str


BUGS = {
    "a dropped lease check": Bug("scheduler.py", "self._fence(key)", "pass"),
    "one container too many": Bug(
        "autoscaler.py", "allowed = limits.maximum - supply.total", "allowed = 1 + limits.maximum - supply.total"
    ),
    "a lost wake-up of who waits for room": Bug(
        "scheduler.py",
        "        self._recount_short()\n        self._forget_if_over(pool)\n",
        "        self._forget_if_over(pool)\n",
    ),
    "a lost wake-up of a container": Bug("line.py", "for ticket in list(self._waiting)[:count]", "for ticket in ()"),
    "a stale token is accepted": Bug("attempts.py", " and attempt.holder == holder", ""),
    "the room of the dead is never given back": Bug(
        "scheduler.py", "        self.placement.free(container.task_id)\n", ""
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    source = Path(jiffy.__file__).parent
    shutil.copytree(source, tmp_path / "jiffy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "sim", tmp_path / "tests" / "sim", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    module = tmp_path / "jiffy" / "core" / bug.module
    text = module.read_text()
    assert text.count(bug.right) == 1, f"{bug.module} has changed: plant the bug elsewhere"
    module.write_text(text.replace(bug.right, bug.wrong))
    assert any(found is not None for found in find(0, SEEDS, JOBS, root=tmp_path))
