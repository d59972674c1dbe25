"""Web endpoints: requests per second and how long each takes, with few and many at once, beside uvicorn alone with the same
application on the same machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report, at_share
from bench.hosts import scratch_directory
from bench.processes import ask_module, client_environment
from jiffy.cli.running import RunningServer, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError

_CONCURRENCY: Final = (1, 64, 512)
_SECONDS: Final = 10.0
_PATIENCE: Final = 60.0
_HOST: Final = "bench-web-page-dev.localhost"

_APPLICATION: Final = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
_PROGRAM: Final = """
import modal

image = modal.Image.debian_slim().add_local_python_source("page_application")
app = modal.App("bench-web", image=image)

@app.function(max_containers=1)
@modal.concurrent(max_inputs=1000)
@modal.asgi_app()
def page():
    from page_application import application
    return application
"""


@dataclass(slots=True)
class _Measured:
    rate: float
    latest: float


def run(data: DataDirectory, samples: int) -> Report:
    """Needs a server that runs on the data directory."""
    server = find_server(data)
    rounds, seconds = (min(samples, 3), _SECONDS) if samples > 1 else (1, 0.5)
    with scratch_directory(data) as scratch:
        (scratch.root / "page_application.py").write_text(_APPLICATION)
        program = scratch.root / "bench_web.py"
        program.write_text(_PROGRAM)
        with _served(server, program) as ours, _uvicorn(scratch.root) as theirs:
            measured = {
                concurrency: [
                    (_load(ours, _HOST, concurrency, seconds), _load(theirs, "localhost", concurrency, seconds))
                    for _ in range(rounds)
                ]
                for concurrency in _CONCURRENCY
            }
    figures = []
    for concurrency, pairs in measured.items():
        ours_, theirs_ = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rates = [each.rate for each in ours_], [each.rate for each in theirs_]
        latest = [each.latest for each in ours_], [each.latest for each in theirs_]
        figures += [
            Figure(f"requests, {concurrency} at once", "1/s", rates[0], "uvicorn alone", rates[1]),
            Figure(f"99 of 100 requests, {concurrency} at once", "ms", latest[0], "uvicorn alone", latest[1]),
        ]
    return Report(figures)


def _load(url: str, host: str, concurrency: int, seconds: float) -> _Measured:
    answer = ask_module("bench.load", url, host, concurrency, seconds)
    if answer["failures"]:
        raise JiffyError(f"{answer['failures']} of {len(answer['times'])} requests failed", why=f"of {host}")
    return _Measured(len(answer["times"]) / answer["seconds"], at_share(answer["times"], 0.99))


@contextlib.contextmanager
def _served(server: RunningServer, program: Path) -> Iterator[str]:
    """The address at which the program's endpoint is served."""
    log = program.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "modal", "serve", str(program)],
            env=client_environment(server),
            cwd=program.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_page(server.http_url, _HOST, process, log)
        yield server.http_url
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def _uvicorn(folder: Path) -> Iterator[str]:
    """It takes a listener that it is given for one of a path, and leaves out what makes TCP answer at once: so it is given
    a port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "uvicorn.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "uvicorn", "page_application:application", "--log-level", "error"]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--backlog", "1024"], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _await_page(url, "localhost", process, log)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _await_page(url: str, host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(JiffyError):
            _load(url, host, 1, 0.01)
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise JiffyError(f"{host} is not served", why=log.read_text(errors="replace")[-500:])
        time.sleep(0.3)
