"""How long a container takes to start, cold and warm, and where the time goes.

`cold`: a host with an empty data directory, which fetches what is read from the running server over HTTP. `profiled cold`:
the same, with a list of what an earlier start read. `warm`: a host that has it all. Beside them: `crun run` on a plain copy
of the same root, on the same disk. A start ends with the first byte that the container's process prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report, Split
from jiffy.cli.running import RunningServer, find_server
from jiffy.core.actions import LaunchContainer
from jiffy.core.events import ContainerExited, ContainerStarted, Event, LogWritten, StartRecorded
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.fs.profile import encode_profile
from jiffy.image.index import Entry, Index, Kind
from jiffy.objects.local import LocalObjects
from jiffy.store.stores import open_stores
from jiffy.worker.container import Container
from jiffy.worker.host import Host, Origin, open_host

_PROGRAMS: Final = {
    "first instruction": ("/bin/echo", "ready"),
    "Python ready": ("python3", "-c", "import json, socket, ssl; print('ready')"),
}
_PAUSE: Final = 0.3
"""Seconds before each start: a host that is neither busy nor just opened, with interfaces prepared ahead."""

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
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class _Start:
    """Milliseconds until the first byte, and of each phase before it."""

    total: float
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Samples:
    """Milliseconds: program -> samples of it, phase -> samples with the first program."""

    starts: dict[str, list[float]] = field(default_factory=dict)
    phases: dict[str, list[float]] = field(default_factory=dict)

    def add(self, program: str, start: _Start) -> None:
        self.starts.setdefault(program, []).append(start.total)
        if program == next(iter(_PROGRAMS)):
            for phase, milliseconds in start.phases.items():
                self.phases.setdefault(phase, []).append(milliseconds)


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    server = find_server(data)
    with _scratch(data) as scratch:
        program = scratch.root / "hello.py"
        program.write_text(_HELLO)
        _run_program(program, server)
        runs = [_run_program(program, server) for _ in range(samples)]
        imports = [_time(sys.executable, "-c", "import modal") for _ in range(samples)]
        index, base = asyncio.run(_find_base(data))
        copy = scratch.root / "copy"
        _unpack(Index.from_file(LocalObjects(data.objects, data.incoming).path(index)), data, copy)
        origin = Origin(server.http_url, data.token)
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


@contextmanager
def _scratch(data: DataDirectory) -> Iterator[DataDirectory]:
    """An empty data directory on the same disk. What a killed run left is removed by the next."""
    scratch = DataDirectory(data.root / "bench")
    shutil.rmtree(scratch.root, ignore_errors=True)
    scratch.create()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch.root, ignore_errors=True)


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


async def _find_base(data: DataDirectory) -> tuple[str, str]:
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


def _unpack(index: Index, data: DataDirectory, target: Path) -> None:
    """The plain copy that the peer runs on."""
    objects = LocalObjects(data.objects, data.incoming)
    target.mkdir()
    for entry in index:
        path = target / os.fsdecode(entry.path).lstrip("/")
        match entry.kind:
            case Kind.DIRECTORY:
                path.mkdir(exist_ok=True)
            case Kind.SYMLINK:
                path.symlink_to(os.fsdecode(entry.target))
            case Kind.FILE:
                _copy_file(entry, objects, path)


def _copy_file(entry: Entry, objects: LocalObjects, path: Path) -> None:
    if entry.digest:
        shutil.copyfile(objects.path(entry.digest), path)
    else:
        path.touch()
    path.chmod(entry.mode)


def _measure(
    scratch: DataDirectory, origin: Origin, base: str, profiles: dict[str, str], copy: Path, samples: int
) -> tuple[_Samples, _Samples, _Samples, _Samples]:
    """Cold, cold with a profile, warm and the peer, in turns. Each start that is cold has a loop of its own, whose threads
    are all in its host's namespace."""
    kinds = _Samples(), _Samples(), _Samples(), _Samples()
    for _ in range(samples):
        for name, argv in _PROGRAMS.items():
            bundle = _make_peer(copy, scratch.root / "peer", argv)
            profiled = asyncio.run(_start_profiled(scratch, origin, name, base, profiles[name]))
            cold, warm, peer = asyncio.run(_take_turn(scratch, origin, name, base, bundle))
            for kind, start in zip(kinds, (cold, profiled, warm, peer), strict=True):
                kind.add(name, start)
    return kinds


async def _record(scratch: DataDirectory, origin: Origin, data: DataDirectory, name: str, base: str) -> str:
    """Have the origin hold the profile of a program; gives its digest."""
    async with _open(scratch, origin) as starts:
        await starts.measure(name, base, record=True)
    return LocalObjects(data.objects, data.incoming).put(encode_profile(starts.recorded))


async def _start_profiled(scratch: DataDirectory, origin: Origin, name: str, base: str, profile: str) -> _Start:
    _forget_all(scratch)
    async with _open(scratch, origin) as starts:
        return await starts.measure(name, base, profile)


async def _take_turn(
    scratch: DataDirectory, origin: Origin, name: str, base: str, bundle: Path
) -> tuple[_Start, _Start, _Start]:
    """All on the same open host, so that the peer finds the kernel as the others do."""
    _forget_all(scratch)
    async with _open(scratch, origin) as starts:
        cold = await starts.measure(name, base)
        warm = await starts.measure(name, base)
        return cold, warm, await _start_peer(bundle)


def _forget_all(scratch: DataDirectory) -> None:
    shutil.rmtree(scratch.objects)
    scratch.create()


class _Starts:
    """Starts containers on a host and hears what they tell."""

    def __init__(self) -> None:
        self.host: Host | None = None
        self._serial = itertools.count()
        self._first_byte_at = 0.0
        self._phases: dict[str, float] = {}
        self._exit: ContainerExited | None = None
        self.recorded: tuple[str, ...] = ()

    def hear(self, event: Event) -> None:
        match event:
            case LogWritten() if not self._first_byte_at:
                self._first_byte_at = time.perf_counter()
            case ContainerStarted():
                self._phases = event.phases
            case StartRecorded():
                self.recorded = event.digests
            case ContainerExited():
                self._exit = event

    async def measure(self, name: str, base: str, profile: str = "", *, record: bool = False) -> _Start:
        assert self.host is not None
        await asyncio.sleep(_PAUSE)
        self._first_byte_at = 0.0
        order = LaunchContainer(
            task_id=f"bench-{next(self._serial)}",
            layers=(base,),
            argv=_PROGRAMS[name],
            environment={"PATH": _PATH},
            profile=profile,
            record=record,
        )
        started = time.perf_counter()
        await Container(order, self.host).run()
        if not self._first_byte_at:
            raise JiffyError("a container did not start", why=str(self._exit))
        total = self._first_byte_at - started
        phases = {**self._phases, "first byte": max(0.0, total - sum(self._phases.values()))}
        return _Start(total * 1000, {phase: seconds * 1000 for phase, seconds in phases.items()})


@asynccontextmanager
async def _open(scratch: DataDirectory, origin: Origin) -> AsyncIterator[_Starts]:
    starts = _Starts()
    async with open_host(scratch, origin, starts.hear, lambda: False) as host:
        starts.host = host
        yield starts


def _make_peer(copy: Path, bundle: Path, argv: tuple[str, ...]) -> Path:
    """A bundle with the runtime's own default configuration."""
    bundle.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (bundle / "config.json").unlink()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    configuration = json.loads((bundle / "config.json").read_text())
    configuration["root"] = {"path": str(copy), "readonly": False}
    configuration["process"].update(terminal=False, args=list(argv), env=[f"PATH={_PATH}"])
    configuration["process"].pop("rlimits", None)
    (bundle / "config.json").write_text(json.dumps(configuration))
    return bundle


async def _start_peer(bundle: Path) -> _Start:
    await asyncio.sleep(_PAUSE)
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("crun", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), "jiffy-bench-peer"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = await process.stdout.read(1)
    milliseconds = (time.perf_counter() - started) * 1000
    _, errors = await process.communicate()
    if not first or process.returncode != 0:
        raise JiffyError("crun did not start its container", why=errors.decode(errors="replace"))
    return _Start(milliseconds)
