"""Parts of measurements that run as processes of their own, so that they take nothing from each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from jiffy.cli.running import RunningServer
from jiffy.errors import JiffyError


def ask_module(module: str, *arguments: object) -> Any:
    """What a module of the benchmark prints as JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode != 0:
        raise JiffyError(f"{module} failed", why=done.stderr[-500:])
    return json.loads(done.stdout.splitlines()[-1])


def client_environment(server: RunningServer) -> dict[str, str]:
    return {
        **os.environ,
        "MODAL_SERVER_URL": server.url,
        "MODAL_TOKEN_ID": server.token_id,
        "MODAL_TOKEN_SECRET": server.token_secret,
    }


def processor_of(pid: int) -> float:
    """Milliseconds of processor that a process has used, to the microsecond: in clock ticks they would be nothing."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
