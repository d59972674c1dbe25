"""How long a container takes to start, cold and warm, and where the time goes.

`cold`: a host with an empty data directory, which fetches what is read from the running server over HTTP. `profiled cold`:
the same, with a list of what an earlier start read. `warm`: a host that has it all. Beside them: `crun run` on a plain copy
of the same root, on the same disk. A start ends with the first byte that the container's process prints.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.copies import make_bundle, start_copy, unpack
from bench.figures import Figure, Report, Split
from bench.hosts import Start, forget_objects, open_starts, record_profile, scratch_directory
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.image.index import Index
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import encode_profile
from jiffy.store.stores import open_stores
from jiffy.worker.host import Origin

_PROGRAMS: Final = {
    "first instruction": ("/bin/echo", "ready"),
    "Python ready": ("python3", "-c", "import json, socket, ssl; print('ready')"),
}
_REACH: Final = 1.5
_HELLO: Final = """
import modal

app = modal.App("bench", image=modal.Image.debian_slim())

@app.function()
def greet() -> str:
    return "hello"

@app.local_entrypoint()
def main():
    print(greet.remote())
"""


@dataclass(slots=True)
class _Samples:
    """Milliseconds: program -> samples of it, phase -> samples with the first program."""

    starts: dict[str, list[float]] = field(default_factory=dict)
    phases: dict[str, list[float]] = field(default_factory=dict)

    def add(self, program: str, start: Start) -> None:
        self.starts.setdefault(program, []).append(start.total)
        if program == next(iter(_PROGRAMS)):
            for phase, milliseconds in start.phases.items():
                self.phases.setdefault(phase, []).append(milliseconds)


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    with scratch_directory(data) as scratch:
        program = make_base(server, scratch)
        runs = [_run_program(program, server) for _ in range(samples)]
        imports = [_time(sys.executable, "-c", "import modal") for _ in range(samples)]
        index, base = asyncio.run(find_base(data))
        copy = scratch.root / "copy"
        objects = LocalObjects(data.objects, data.incoming)
        unpack([Index.from_file(objects.path(index))], objects, copy)
        origin = Origin((server.http_url,), data.token)
        profiles = {name: asyncio.run(_record(scratch, origin, data, name, base)) for name in _PROGRAMS}
        cold, profiled, warm, peer = _measure(scratch, origin, base, profiles, copy, samples)
    figures = [
        *(_beside("warm", name, warm, peer, _REACH if name == "first instruction" else 0.0) for name in _PROGRAMS),
        *(_beside("cold", name, cold, peer, 0.0) for name in _PROGRAMS),
        *(_beside("profiled cold", name, profiled, peer, 0.0) for name in _PROGRAMS),
        Figure("modal run, warm", "ms", runs, "import modal, host", imports),
    ]
    kinds = {"cold": cold, "profiled cold": profiled, "warm": warm}
    splits = [Split(f"{name} start", "ms", kind.phases) for name, kind in kinds.items()]
    return Report(figures, splits)


def _beside(kind: str, program: str, ours: _Samples, peer: _Samples, reach: float) -> Figure:
    name = f"{kind} start, {program}"
    return Figure(name, "ms", ours.starts[program], "crun, plain copy", peer.starts[program], reach)


def make_base(server: RunningServer, scratch: DataDirectory) -> Path:
    """Run a program, so that the server makes its base image; gives the program."""
    program = scratch.root / "hello.py"
    program.write_text(_HELLO)
    _run_program(program, server)
    return program


def _run_program(program: Path, server: RunningServer) -> float:
    environment = {
        **os.environ,
        "MODAL_SERVER_URL": server.url,
        "MODAL_TOKEN_ID": server.token_id,
        "MODAL_TOKEN_SECRET": server.token_secret,
    }
    return _time(sys.executable, "-m", "modal", "run", str(program), environment=environment)


def _time(*command: str, environment: dict[str, str] | None = None) -> float:
    """Milliseconds that a command takes."""
    started = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise JiffyError(f"{' '.join(command[:4])} failed", why=(done.stdout + done.stderr)[-500:])
    return (time.perf_counter() - started) * 1000


async def find_base(data: DataDirectory) -> tuple[str, str]:
    """The digests of the base's index and of its image."""
    stores = open_stores(data.database)
    try:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        made = await stores.images.find_made(f"base/python/{python}")
        assert made is not None, "the program before this made it"
        image = await stores.images.find_made(f"erofs/{made['index']}")
        assert image is not None, "and this"
        return made["index"], image["index"]
    finally:
        stores.close()


def _measure(
    scratch: DataDirectory, origin: Origin, base: str, profiles: dict[str, str], copy: Path, samples: int
) -> tuple[_Samples, _Samples, _Samples, _Samples]:
    """Cold, cold with a profile, warm and the peer, in turns. Each start that is cold has a loop of its own, whose threads
    are all in its host's namespace."""
    kinds = _Samples(), _Samples(), _Samples(), _Samples()
    for _ in range(samples):
        for name, argv in _PROGRAMS.items():
            bundle = make_bundle(copy, scratch.root / "peer", argv)
            profiled = asyncio.run(_start_profiled(scratch, origin, name, base, profiles[name]))
            cold, warm, peer = asyncio.run(_take_turn(scratch, origin, name, base, bundle))
            for kind, start in zip(kinds, (cold, profiled, warm, peer), strict=True):
                kind.add(name, start)
    return kinds


async def _record(scratch: DataDirectory, origin: Origin, data: DataDirectory, name: str, base: str) -> str:
    """Have the origin hold the profile of a program; gives its digest."""
    profile = await record_profile(scratch, origin, _PROGRAMS[name], [base])
    return LocalObjects(data.objects, data.incoming).put(encode_profile(profile))


async def _start_profiled(scratch: DataDirectory, origin: Origin, name: str, base: str, profile: str) -> Start:
    forget_objects(scratch)
    async with open_starts(scratch, origin) as starts:
        return await starts.measure(_PROGRAMS[name], [base], profile)


async def _take_turn(
    scratch: DataDirectory, origin: Origin, name: str, base: str, bundle: Path
) -> tuple[Start, Start, Start]:
    """All on the same open host, so that the peer finds the kernel as the others do."""
    forget_objects(scratch)
    async with open_starts(scratch, origin) as starts:
        cold = await starts.measure(_PROGRAMS[name], [base])
        warm = await starts.measure(_PROGRAMS[name], [base])
        return cold, warm, await start_copy(bundle)
