"""Many runs of the simulation, on all cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Finding:
    """What did not hold, and the last of what happened before."""

    seed: int
    what: str
    trace: str


def find(first: int, seeds: int, jobs: int, root: Path = ROOT) -> Iterator[Finding | None]:
    """Run seeds from `first` on; gives None for each run in which everything held. `root` has the jiffy and the tests that
    are run."""
    share = -(-seeds // jobs)
    runs = [
        _start(root, str(start), str(min(start + share, first + seeds))) for start in range(first, first + seeds, share)
    ]
    try:
        for run in runs:
            assert run.stdout is not None
            for line in run.stdout:
                given = json.loads(line)
                yield Finding(**given) if given else None
            _check(run)
    finally:
        for run in runs:
            run.kill()
            run.wait()
            assert run.stdout is not None
            run.stdout.close()


def _start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Sets of names have the same order in every run."""
    command = [sys.executable, "-m", "tests.sim", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)


def _check(run: subprocess.Popen[str]) -> None:
    if run.wait() != 0:
        raise RuntimeError(f"a run of seeds ended with code {run.returncode}")


def tell(seed: int, say: Callable[[str], object]) -> Iterator[Finding | None]:
    """Run one seed, in a process of its own, and say what happens in it."""
    run = _start(ROOT, "--tell", str(seed))
    output, _ = run.communicate()
    _check(run)
    told = json.loads(output)
    say(told["trace"])
    yield Finding(seed, told["what"], told["trace"]) if told["what"] else None
