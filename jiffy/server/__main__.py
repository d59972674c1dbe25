"""`python -m jiffy.server`: the serving process, on listeners that its parent owns. `jiffy serve` starts it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

import click

from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.locks import hold_lock
from jiffy.server.listeners import end_with_owner
from jiffy.server.options import ServerOptions, server_options
from jiffy.server.serve import Listeners, run_server


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--grpc-fd", type=int, required=True)
@click.option("--http-fd", type=int, required=True)
@server_options
def main(data: Path, grpc_fd: int, http_fd: int, options: ServerOptions) -> None:
    end_with_owner()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("grpclib.server").setLevel(logging.WARNING)
    listeners = Listeners(socket.socket(fileno=grpc_fd), socket.socket(fileno=http_fd))
    try:
        asyncio.run(_serve(DataDirectory(data), listeners, options))
    except JiffyError as error:
        click.echo(f"server: {error}", err=True)
        sys.exit(1)


async def _serve(data: DataDirectory, listeners: Listeners, options: ServerOptions) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    with hold_lock(data.serving_lock, "server"):
        async with run_server(data, listeners, options):
            await ended.wait()


if __name__ == "__main__":
    main()
