"""`jiffy worker`"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
from pathlib import Path

import click

from jiffy.addresses import pinned, read_address
from jiffy.cli.gpu_option import gpu_option
from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.files import replace_file
from jiffy.objects.eviction import Limits
from jiffy.runtime.capacity import Capacity, find_capacity
from jiffy.runtime.kernel import require_kernel
from jiffy.sizes import parse_size
from jiffy.worker.agent import Agent, WorkerOptions
from jiffy.worker.caches import BUILD_CACHE_BYTES
from jiffy.worker.gpus import read_inventory


def read_size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Bytes, as people write them: 20GiB, 512M, 1000000."""
    if text is None:
        return None
    try:
        return parse_size(text)
    except InvalidError as error:
        raise click.BadParameter(str(error), context, option) from error


@click.command()
@data_option
@click.option(
    "--server",
    "servers",
    required=True,
    multiple=True,
    envvar="JIFFY_SERVER",
    help="The server's gate: https://host:9902. Repeat it for each of several servers on one store.",
)
@click.option(
    "--token", default="", envvar="JIFFY_WORKER_TOKEN", help="From `jiffy token create`; kept for later runs."
)
@click.option("--source", "sources", multiple=True, help="Where to look for objects before the server, nearest first.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="What placements may ask for; repeatable.")
@gpu_option
@click.option("--cpus", type=click.FloatRange(min=0.1), help="What containers may use.  [default: all]")
@click.option("--memory", callback=read_size, help="What containers may use.  [default: nine tenths]")
@click.option("--cache-size", callback=read_size, default="0", help="Bytes of objects to keep at most; 0 for no limit.")
@click.option(
    "--keep-free", callback=read_size, default="2GiB", show_default=True, help="To keep free on the disk of objects."
)
@click.option(
    "--disk",
    "disks",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder on a disk for objects; repeatable.",
)
@click.option(
    "--build-cache-size",
    callback=read_size,
    default=str(BUILD_CACHE_BYTES),
    help="What caches of builds may have.  [default: 20GiB]",
)
@click.option("--orphan-seconds", default=60.0, show_default=True, help="How long to wait for a server that is gone.")
@click.option(
    "--drain-seconds",
    default=120.0,
    show_default=True,
    help="What running inputs have to finish when the worker is told to end; others run them again after that.",
)
def worker(
    data: Path,
    servers: tuple[str, ...],
    token: str,
    sources: tuple[str, ...],
    labels: tuple[str, ...],
    gpus: tuple[str, ...],
    cpus: float | None,
    memory: int | None,
    cache_size: int,
    keep_free: int,
    disks: tuple[Path, ...],
    build_cache_size: int,
    orphan_seconds: float,
    drain_seconds: float,
) -> None:
    """Run containers on this machine for a server elsewhere, until SIGTERM or SIGINT. A second signal does not wait for
    what runs."""
    if os.geteuid() != 0:
        raise ConflictError("a worker needs root", hint="run as root")
    require_kernel(platform.release())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    directory = DataDirectory(data)
    directory.create()
    options = WorkerOptions(
        servers=_join(directory, servers, token),
        token_file=directory.join_token,
        sources=sources,
        limits=Limits(cache_size, keep_free),
        disks=disks,
        build_cache=build_cache_size,
        capacity=_declare(cpus, memory),
        labels=labels,
        gpus=read_inventory(gpus),
        orphan_seconds=orphan_seconds,
        drain_seconds=drain_seconds,
    )
    asyncio.run(Agent(directory, options).run())


def _join(data: DataDirectory, servers: tuple[str, ...], token: str) -> tuple[str, ...]:
    """Keep the token, if one is given; gives the servers' addresses with what is known of their certificate."""
    for server in servers:
        read_address(server)
    if token:
        parts = token.split(":")
        if len(parts) != 3 or not all(parts):
            raise InvalidError("this is no token of a worker", hint="`jiffy token create` on the server prints one")
        kept = dict(zip(("token_id", "token_secret", "pin"), parts, strict=True))
        replace_file(data.join_token, json.dumps(kept), private=True)
    if not data.join_token.exists():
        raise NotFoundError("this machine has no token of the server", hint="`jiffy token create` there prints one")
    pin = json.loads(data.join_token.read_text())["pin"]
    addresses = tuple(pinned(server, pin) for server in servers)
    for address in addresses:
        read_address(address)
    return addresses


def _declare(cpus: float | None, memory: int | None) -> Capacity:
    found = find_capacity()
    cpu_millis = found.cpu_millis if cpus is None else int(1000 * cpus)
    return Capacity(cpu_millis, found.memory_bytes if memory is None else memory)
