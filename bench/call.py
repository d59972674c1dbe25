"""What a call costs, from the client's side and from the server's: warm calls, maps and spawns of ten thousand inputs, a
call that finds no container. Beside them: the client and the entrypoint with a server that answers from memory, and Ray and
Dask."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, Report, Split, at_share
from bench.hosts import scratch_directory
from bench.peers import PEERS
from bench.processes import ask_module, client_environment, processor_of
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
    if phase == "calls":
        for _ in range(20):
            one.remote()
        print("READY", flush=True)
        sys.stdin.readline()
        print("FIGURES", json.dumps([timed(one.remote) for _ in range(number)]))
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
    server: float = 0.0
    worker: float = 0.0


def run(data: DataDirectory, samples: int) -> Report:
    """Needs a server that runs on the data directory. Calls are compared with what the client and the entrypoint take by
    themselves, maps with Ray and Dask where they are installed."""
    server = find_server(data)
    inputs, calls = (_INPUTS, _CALLS) if samples > 1 else (50, 10)
    rounds = min(samples, 3)
    with scratch_directory(data) as scratch:
        program = scratch.root / "bench_call.py"
        program.write_text(_PROGRAM)
        bench = _Bench(data, server, program)
        bench.measure("cold", 1)
        alone: list[dict[str, Any]] = []
        recorded: list[dict[str, Any]] = []
        warm: list[_Measured] = []
        for _ in range(rounds):
            alone.append(ask_module("bench.floor", calls))
            recorded.append(ask_module("bench.floor", calls, scratch.root))
            warm.append(bench.measure("calls", calls))
        cold = [bench.measure("cold", 1).times[0] for _ in range(rounds)]
        maps = {name: bench.measure(name, inputs) for name in ("one", "four", "together")}
        spawn = bench.measure("spawn", inputs)
    floor = [each["calls"] for each in alone]
    peers = {name: ask_module("bench.peers", name, calls, inputs) for name in PEERS if _is_installed(name)}
    return Report(
        [
            *_call_figures(warm, floor, cold),
            _recorded_figure([each["calls"] for each in recorded], floor),
            *_map_figures(maps, spawn, inputs, _at_median(floor, 0.5)),
            *_peer_figures(peers, inputs, warm),
            *_processor_figures(warm, maps, _processor(alone), _processor(recorded)),
        ],
        [Split("a warm call", "ms", _split(warm, floor))],
    )


def _call_figures(warm: list[_Measured], floor: list[list[float]], cold: list[float]) -> list[Figure]:
    beside = "the client and the entrypoint alone"
    return [
        *(
            Figure(
                f"warm call, {words}",
                "ms",
                [at_share(each.times, share) for each in warm],
                beside,
                [at_share(each, share) for each in floor],
                1.25,
            )
            for words, share in (("median", 0.5), ("99 of 100", 0.99))
        ),
        Figure("call that finds no container", "ms", cold, beside, [at_share(each, 0.5) for each in floor]),
    ]


def _recorded_figure(recorded: list[list[float]], floor: list[list[float]]) -> Figure:
    """What it costs alone that each step of a call is in the store before it counts."""
    return Figure(
        "call at a server that only records it, median",
        "ms",
        [at_share(each, 0.5) for each in recorded],
        "the client and the entrypoint alone",
        [at_share(each, 0.5) for each in floor],
    )


def _processor(rounds: list[dict[str, Any]]) -> list[float]:
    return [each["server"] for each in rounds]


def _map_figures(maps: dict[str, _Measured], spawn: _Measured, inputs: int, floor: float) -> list[Figure]:
    timed = {f"map of {inputs} inputs, {name}": each for name, each in maps.items()}
    timed[f"spawn_map of {inputs} inputs"] = spawn
    peer = "one call after the other, client and entrypoint alone"
    return [
        Figure(name, "inputs/s", [inputs / (each.times[0] / 1000)], peer, [1000 / floor])
        for name, each in timed.items()
    ]


def _peer_figures(peers: dict[str, Any], inputs: int, warm: list[_Measured]) -> list[Figure]:
    """What others take, beside a warm call of ours."""
    ours = [at_share(each.times, 0.5) for each in warm]
    figures = []
    for name, measured in peers.items():
        figures.append(Figure(f"call of {name}, median", "ms", [at_share(measured["calls"], 0.5)], "a warm call", ours))
        rate = inputs / (measured["map"] / 1000)
        figures.append(
            Figure(
                f"map of {inputs} inputs, {name}", "inputs/s", [rate], "one warm call after the other", [1000 / ours[0]]
            )
        )
    return figures


def _processor_figures(
    warm: list[_Measured], maps: dict[str, _Measured], memory: list[float], recorded: list[float]
) -> list[Figure]:
    """Beside the limit; and what servers take that answer from memory, with the same transport."""
    used = {"warm call": [each.server for each in warm]}
    used["call at a server that answers from memory"] = memory
    used["call at a server that only records it"] = recorded
    used.update({f"input of a map, {name}": [each.server] for name, each in maps.items()})
    return [
        Figure(f"server's processor, {name}", "ms", times, "the limit", [_CPU_LIMIT], 1.0)
        for name, times in used.items()
    ]


def _split(warm: list[_Measured], floor: list[list[float]]) -> dict[str, list[float]]:
    """Processor of each, and the time that a call takes."""
    return {
        "server": [each.server for each in warm],
        "worker": [each.worker for each in warm],
        "client and entrypoint alone": [at_share(each, 0.5) for each in floor],
        "elapsed": [at_share(each.times, 0.5) for each in warm],
    }


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _at_median(rounds: list[list[float]], share: float) -> float:
    return statistics.median(at_share(each, share) for each in rounds)


class _Bench:
    def __init__(self, data: DataDirectory, server: RunningServer, program: Path) -> None:
        self._data = data
        self._server = server
        self._program = program

    def measure(self, phase: str, number: int) -> _Measured:
        command = [sys.executable, "-m", "modal", "run", str(self._program), "--phase", phase, "--number", str(number)]
        run = subprocess.Popen(
            command,
            env=client_environment(self._server),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
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
                measured.server = (after[0] - before[0]) / number
                measured.worker = (after[1] - before[1]) / number
        run.stdin.close()
        if run.wait() != 0 or not measured.times:
            raise JiffyError("a program of the benchmark failed", why="".join(seen)[-500:])
        return measured

    def _processor(self) -> tuple[float, float]:
        """Milliseconds that the server and the worker have used so far."""
        worker = lock_holder(self._data.worker_lock)
        return processor_of(self._server.pid), processor_of(worker) if worker is not None else 0.0
