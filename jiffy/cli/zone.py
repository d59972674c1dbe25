"""`jiffy zone`"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

import click
from aiohttp import web

from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import UnavailableError
from jiffy.locks import hold_lock
from jiffy.objects.eviction import Evictor, LayerUse, Limits
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import Partials
from jiffy.objects.recovery import Marker
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers
from jiffy.periodic import repeat
from jiffy.server.zone import Zone

_TEND_SECONDS: Final = 10.0


@click.command()
@data_option
@click.option("--source", "sources", multiple=True, required=True, help="Where to fetch from: http://, s3:// ...")
@click.option(
    "--token-file", type=click.Path(path_type=Path, exists=True), required=True, help="The server's token.json."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=9710, show_default=True, help="The port to listen on.")
@click.option("--cache-size", default=0, help="Bytes of objects to keep at most; 0 for no limit.")
@click.option(
    "--keep-free", default=2 * 2**30, show_default=True, help="Bytes to keep free on the disk of the objects."
)
def zone(
    data: Path, sources: tuple[str, ...], token_file: Path, host: str, port: int, cache_size: int, keep_free: int
) -> None:
    """Serve a cache of objects that many hosts share, nearer to them than the server."""
    directory = DataDirectory(data)
    directory.create()
    token = read_token(token_file)
    local = LocalObjects(directory.objects, directory.incoming, durable=False)
    tiers = Tiers(local, open_sources(sources, token))
    partials = Partials(directory.partial, tiers, trusts_lists=False)
    marker = Marker(directory.synced, local, directory.partial)
    evictor = Evictor(local, directory.partial, LayerUse(directory.layer_use), Limits(cache_size, keep_free))
    with hold_lock(directory.server_lock, "server"):
        local.sweep()
        marker.recover()
        asyncio.run(_serve(Zone(tiers, partials, token).application(), host, port, marker, evictor))
        marker.sync()


async def _serve(application: web.Application, host: str, port: int, marker: Marker, evictor: Evictor) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise UnavailableError(f"cannot listen on {host}:{port}", why=str(error.strerror or error)) from error
    click.echo(f"jiffy keeps objects at http://{host}:{port}")
    jobs = [
        asyncio.ensure_future(repeat(_TEND_SECONDS, evictor.run, "dropping objects from the cache")),
        asyncio.ensure_future(repeat(_TEND_SECONDS, marker.sync, "syncing the cache")),
    ]
    await ended.wait()
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    await runner.cleanup()
