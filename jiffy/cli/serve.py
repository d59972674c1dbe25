"""`jiffy serve`"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from jiffy.cli.gpu_option import gpu_option
from jiffy.cli.running import RunningServer, data_option, find_server
from jiffy.cli.supervision import await_end_of_predecessor, keep_gate, keep_server, keep_worker, stop_worker
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError, InvalidError, UnavailableError
from jiffy.locks import hold_lock, lock_holder
from jiffy.objects.cloud import CloudObjects
from jiffy.runtime.kernel import require_kernel
from jiffy.server.certificates import ensure_certificate
from jiffy.server.listeners import open_listener
from jiffy.server.options import ServerOptions, server_options
from jiffy.server.sharing import share
from jiffy.worker.gpus import VARIABLE, read_inventory

_READY_SECONDS: Final = 30.0
_DRAIN_SECONDS: Final = 45.0


@click.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=9900, show_default=True, help="The port for gRPC; HTTP takes the next one.")
@click.option("--worker/--no-worker", default=True, help="Run a worker too; it needs root.")
@gpu_option
@server_options
@click.option("--background", is_flag=True, help="Return when the server answers, and leave it running.")
def serve(
    data: Path,
    host: str,
    port: int,
    worker: bool,
    gpus: tuple[str, ...],
    options: ServerOptions,
    background: bool,
) -> None:
    """Run the server, and a worker beside it, until SIGTERM or SIGINT."""
    directory = DataDirectory(data)
    if worker and os.geteuid() != 0:
        raise ConflictError("a worker needs root", hint="run as root, or with --no-worker")
    if worker:
        require_kernel(platform.release())
    if read_inventory(gpus).devices:
        os.environ[VARIABLE] = " ".join(gpus)  # for the worker
    if options.mirror:
        CloudObjects(options.mirror)  # refuses what is no bucket
    if options.fleet:
        _require_fleet(options)
    if options.shared:
        _require_company(options, worker)
        share(directory, Path(options.shared))
    directory.create()
    if background:
        _serve_in_background(directory, host, port, worker, options)
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        asyncio.run(_serve(directory, host, port, worker, options))


def _require_fleet(options: ServerOptions) -> None:
    from jiffy.fleet.settings import read_fleet  # only who has one loads what reads it

    if not options.gate:
        raise InvalidError("--fleet needs a --gate", why="machines join there", hint="such as --gate 10.0.0.5:9902")
    read_fleet(Path(options.fleet))


def _require_company(options: ServerOptions, worker: bool) -> None:
    """What one of several servers needs, that another may take over."""
    if not options.store:
        raise InvalidError("--shared is for servers on a database", hint="give them one: --store postgresql://...")
    if not options.gate or options.gate.rpartition(":")[0] in ("0.0.0.0", "[::]"):
        raise InvalidError(
            "--shared needs a --gate that names this host",
            why="the other servers and the workers reach this one there",
            hint="such as --gate 10.0.0.5:9902",
        )
    if worker:
        raise InvalidError(
            "--shared needs --no-worker",
            why="a worker beside this server would know no other",
            hint="run `jiffy worker --server https://... --server https://...` with all gates",
        )


async def _serve(data: DataDirectory, host: str, port: int, worker: bool, options: ServerOptions) -> None:
    """Own the listeners, and keep a server and a worker running: the death of either is mended at once."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_lock(data.server_lock, "server"))
        await await_end_of_predecessor(data)
        grpc_listener = stack.enter_context(open_listener(host, port))
        http_listener = stack.enter_context(open_listener(host, grpc_listener.getsockname()[1] + 1))
        kept = [keep_server(data, grpc_listener, http_listener, options)]
        if options.gate:
            ensure_certificate(data.certificate)
            gate_host, _, gate_port = options.gate.rpartition(":")
            kept.append(keep_gate(data, stack.enter_context(open_listener(gate_host, int(gate_port), "--gate"))))
        servers = [asyncio.ensure_future(each) for each in kept]
        keeper = asyncio.ensure_future(keep_worker(data)) if worker else None
        click.echo(f"jiffy serves http://{host}:{grpc_listener.getsockname()[1]}", err=True)
        await ended.wait()
        if keeper is not None:
            await _cancel(keeper)
            await stop_worker(data, _DRAIN_SECONDS)
        for server in reversed(servers):
            await _cancel(server)


async def _cancel(job: asyncio.Future[None]) -> None:
    job.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await job


def _serve_in_background(data: DataDirectory, host: str, port: int, worker: bool, options: ServerOptions) -> None:
    log = data.logs / "server.log"
    said_before = log.stat().st_size if log.exists() else 0
    started = _start(log, data, host, port, worker, options) if lock_holder(data.server_lock) is None else None

    def require_started() -> None:
        if started is not None and started.poll() is not None:
            raise UnavailableError("the server did not start", why=_last_words(log, said_before) or f"see {log}")

    server = _await_ready(data, worker, require_started)
    click.echo(f"jiffy serves {server.url} (process {server.pid}, log {data.logs / 'server.log'})")


def _start(
    log: Path, data: DataDirectory, host: str, port: int, worker: bool, options: ServerOptions
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jiffy", "serve", "--data", str(data.root), "--host", host, "--port", str(port)]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--worker" if worker else "--no-worker", *options.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **options.environment()},
        )


def _last_words(log: Path, since: int) -> str:
    """The last line of what was written since the log had a size in bytes."""
    lines = log.read_bytes()[since:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix("jiffy: ")


def _await_ready(data: DataDirectory, worker: bool, require_started: Callable[[], None]) -> RunningServer:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            server = find_server(data)
            if server.workers or not worker:
                return server
            reason = f"no worker joined it; see {data.logs / 'worker.log'}"
        except UnavailableError as error:
            reason = f"{error.why}; see {data.logs / 'server.log'}"
        require_started()
        if time.monotonic() > deadline:
            raise UnavailableError(f"the server is not ready after {_READY_SECONDS:g} s", why=reason)
        time.sleep(0.05)
