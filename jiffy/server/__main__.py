"""`python -m jiffy.server`: the serving process, on listeners that its parent owns. `jiffy serve` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from pathlib import Path

import click

from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.locks import hold_lock
from jiffy.server.listeners import Listeners, end_with_owner
from jiffy.server.options import ServerOptions, server_options
from jiffy.server.serve import run_server


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--grpc-fd", type=int, required=True)
@click.option("--http-fd", type=int, required=True)
@server_options
def main(data: Path, grpc_fd: int, http_fd: int, options: ServerOptions) -> None:
    end_with_owner()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listeners = Listeners(socket.socket(fileno=grpc_fd), socket.socket(fileno=http_fd))
    try:
        asyncio.run(_serve(DataDirectory(data), listeners, options))
    except JiffyError as error:
        click.echo(f"server: {error}", err=True)
        sys.exit(1)


async def _serve(data: DataDirectory, listeners: Listeners, options: ServerOptions) -> None:
    """Until a signal, which may also come while this server waits to lead."""

    async def run() -> None:
        async with run_server(data, listeners, options):
            await asyncio.Event().wait()

    with hold_lock(data.serving_lock, "server"):
        running = asyncio.ensure_future(run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _cancel_once, running)
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _cancel_once(running: asyncio.Future[None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    running.cancel()


if __name__ == "__main__":
    main()
