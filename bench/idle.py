"""What a server and its worker take while nothing happens: memory and processor, with fifty functions deployed and no
container. Beside them: the limits that were set."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report, Split
from bench.hosts import scratch_directory
from bench.processes import client_environment, processor_of
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError

_FUNCTIONS: Final = 50
_LIMIT_MB: Final = 150.0
_LIMIT_PERCENT: Final = 1.0
_SETTLE_SECONDS: Final = 70.0
"""A container that was used ends after a minute without work."""

_SECONDS: Final = 20.0
_APP: Final = "bench-idle"


def run(data: DataDirectory, samples: int) -> Report:
    """Needs a server with a worker that runs on the data directory, and does nothing else."""
    server = find_server(data)
    functions, seconds = (_FUNCTIONS, _SECONDS) if samples > 1 else (2, 0.5)
    with scratch_directory(data) as scratch:
        program = scratch.root / "bench_idle.py"
        program.write_text(_program(functions))
        _modal(server, "deploy", str(program))
    try:
        _modal(server, "call-one")
        if samples > 1:
            time.sleep(_SETTLE_SECONDS)
        measured = [_measure(data, seconds) for _ in range(min(samples, 5))]
    finally:
        _modal(server, "app", "stop", _APP, "--yes")
    names = sorted({name for each in measured for name in each})
    memory = [sum(megabytes for megabytes, _ in each.values()) for each in measured]
    percent = [sum(used for _, used in each.values()) for each in measured]
    what = f"idle, {functions} functions at zero"
    return Report(
        [
            Figure(f"{what}, memory", "MB", memory, "limit", [_LIMIT_MB] * len(memory), 1.0),
            Figure(f"{what}, of one core", "%", percent, "limit", [_LIMIT_PERCENT] * len(percent), 1.0),
        ],
        [
            Split("memory", "MB", {name: [each[name][0] for each in measured if name in each] for name in names}),
            Split("of one core", "%", {name: [each[name][1] for each in measured if name in each] for name in names}),
        ],
    )


def _program(functions: int) -> str:
    lines = ["import modal", f"app = modal.App({_APP!r}, image=modal.Image.debian_slim())"]
    for number in range(functions):
        lines += ["", "@app.function()", f"def function{number}():", f"    return {number}"]
    return "\n".join(lines) + "\n"


def _modal(server: RunningServer, *arguments: str) -> None:
    """A command of the client; `call-one` uses a function once, so that the server has done what servers do."""
    command = [sys.executable, "-m", "modal", *arguments]
    if arguments == ("call-one",):
        call = f"import modal; modal.Function.from_name({_APP!r}, 'function0').remote()"
        command = [sys.executable, "-c", call]
    done = subprocess.run(command, env=client_environment(server), capture_output=True, text=True)
    if done.returncode != 0:
        raise JiffyError("a program of the benchmark failed", why=(done.stdout + done.stderr)[-500:])


def _measure(data: DataDirectory, seconds: float) -> dict[str, tuple[float, float]]:
    """Of each process of the instance, by its module: megabytes, and its share of a core in percent."""
    processes = _processes(data)
    before = {pid: processor_of(pid) for pid in processes}
    time.sleep(seconds)
    found: dict[str, tuple[float, float]] = {}
    for pid, name in processes.items():
        megabytes, percent = found.get(name, (0.0, 0.0))
        used = (processor_of(pid) - before[pid]) / (seconds * 1000) * 100
        found[name] = megabytes + _memory_of(pid), percent + used
    return found


def _processes(data: DataDirectory) -> dict[int, str]:
    """Those that have the data directory in their command, and the module that each runs."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_text().split("\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if str(data.root) in words and "-m" in words and (module := words[words.index("-m") + 1]) != "bench":
            found[int(folder.name)] = "jiffy serve" if module == "jiffy" else module
    return found


def _memory_of(pid: int) -> float:
    """Megabytes; what several processes share counts in parts for each."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
