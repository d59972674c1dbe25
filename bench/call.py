"""What a call costs, from the client's side and from the server's: warm calls, maps and spawns of ten thousand inputs, a
call that finds no container. Beside them: an empty request of the same client to the same server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, Report, Split
from bench.hosts import scratch_directory
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.locks import lock_holder

_INPUTS: Final = 10_000
_CALLS: Final = 300
_CPU_LIMIT: Final = 0.5
"""Milliseconds of the server for one input."""

_PROGRAM: Final = """
import json, sys, time
import modal

app = modal.App("bench-call", image=modal.Image.debian_slim())

@app.function(max_containers=1)
def one(number: int = 0) -> int:
    return number

@app.function(max_containers=4)
def four(number: int) -> int:
    return number

@app.function(max_containers=1)
@modal.concurrent(max_inputs=50)
def together(number: int) -> int:
    return number

def timed(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000

@app.local_entrypoint()
def main(phase: str, number: int):
    if phase == "cold":
        print("FIGURES", json.dumps([timed(one.remote)]))
        return
    functions = {"one": one, "four": four, "together": together}
    if phase in ("calls", "empty"):
        client = modal.Client.from_env()
        call = one.remote if phase == "calls" else client.hello
        for _ in range(20):
            call()
        print("READY", flush=True)
        sys.stdin.readline()
        print("FIGURES", json.dumps([timed(call) for _ in range(number)]))
    elif phase == "spawn":
        one.remote()
        print("READY", flush=True)
        sys.stdin.readline()
        print("FIGURES", json.dumps([timed(lambda: one.spawn_map(range(number)))]))
    else:
        function = functions[phase]
        list(function.map(range(50)))
        print("READY", flush=True)
        sys.stdin.readline()
        print("FIGURES", json.dumps([timed(lambda: sum(function.map(range(number), order_outputs=False)))]))
"""


@dataclass(slots=True)
class _Measured:
    """Milliseconds as the program tells them, and of processor in the server and the worker for each input."""

    times: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)


def run(data: DataDirectory, samples: int) -> Report:
    """Needs a server that runs on the data directory."""
    server = find_server(data)
    inputs, calls = (_INPUTS, _CALLS) if samples > 1 else (50, 10)
    rounds = min(samples, 3)
    with scratch_directory(data) as scratch:
        program = scratch.root / "bench_call.py"
        program.write_text(_PROGRAM)
        bench = _Bench(data, server, program)
        bench.measure("cold", 1)
        empty, warm = bench.measure("empty", calls), bench.measure("calls", calls)
        cold = [bench.measure("cold", 1).times[0] for _ in range(rounds)]
        maps = {name: [bench.measure(name, inputs) for _ in range(rounds)] for name in ("one", "four", "together")}
        spawns = [bench.measure("spawn", inputs) for _ in range(rounds)]
    beside = "an empty request"
    figures = [
        Figure("warm call, median", "ms", [_at(warm.times, 0.5)], beside, [_at(empty.times, 0.5)]),
        Figure("warm call, 99 of 100", "ms", [_at(warm.times, 0.99)], beside, [_at(empty.times, 0.99)]),
        Figure("call that finds no container", "ms", cold, beside, [_at(empty.times, 0.5)]),
        *(
            Figure(
                f"map of {inputs} inputs, {name}",
                "inputs/s",
                [inputs / (each.times[0] / 1000) for each in measured],
                "empty requests in a row",
                [1000 / _at(empty.times, 0.5)],
            )
            for name, measured in maps.items()
        ),
        Figure(
            f"spawn_map of {inputs} inputs",
            "inputs/s",
            [inputs / (each.times[0] / 1000) for each in spawns],
            "empty requests in a row",
            [1000 / _at(empty.times, 0.5)],
        ),
        Figure("server's processor, warm call", "ms", warm.server, "the limit", [_CPU_LIMIT], 1.0),
        *(
            Figure(
                f"server's processor, input of a map, {name}",
                "ms",
                [each.server[0] for each in measured],
                "the limit",
                [_CPU_LIMIT],
                1.0,
            )
            for name, measured in maps.items()
        ),
    ]
    split = {"server": warm.server, "worker": warm.worker, "elapsed": [_at(warm.times, 0.5)]}
    return Report(figures, [Split("a warm call", "ms", split)])


class _Bench:
    def __init__(self, data: DataDirectory, server: RunningServer, program: Path) -> None:
        self._data = data
        self._server = server
        self._program = program

    def measure(self, phase: str, number: int) -> _Measured:
        environment = {
            **os.environ,
            "MODAL_SERVER_URL": self._server.url,
            "MODAL_TOKEN_ID": self._server.token_id,
            "MODAL_TOKEN_SECRET": self._server.token_secret,
        }
        command = [sys.executable, "-m", "modal", "run", str(self._program), "--phase", phase, "--number", str(number)]
        run = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert run.stdin is not None and run.stdout is not None
        measured, before, seen = _Measured(), (0.0, 0.0), []
        for line in run.stdout:
            seen.append(line)
            if line.startswith("READY"):
                before = self._processor()
                run.stdin.write("\n")
                run.stdin.flush()
            if line.startswith("FIGURES"):
                after = self._processor()
                measured.times = json.loads(line.removeprefix("FIGURES"))
                measured.server = [(after[0] - before[0]) / number]
                measured.worker = [(after[1] - before[1]) / number]
        run.stdin.close()
        if run.wait() != 0 or not measured.times:
            raise JiffyError("a program of the benchmark failed", why="".join(seen)[-500:])
        return measured

    def _processor(self) -> tuple[float, float]:
        """Milliseconds that the server and the worker have used so far."""
        worker = lock_holder(self._data.worker_lock)
        return _used(self._server.pid), _used(worker) if worker is not None else 0.0


def _used(pid: int) -> float:
    fields: list[Any] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
