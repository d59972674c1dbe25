"""`python -m jiffy.worker`: a worker for the server that shares its data directory, or for one elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.objects.eviction import Limits
from jiffy.worker.agent import Agent
from jiffy.worker.caches import BUILD_CACHE_BYTES


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="This worker's data directory.")
@click.option("--server", default="", help="The HTTP address of a server elsewhere.")
@click.option("--source", "sources", multiple=True, help="Where to look for objects before the server, nearest first.")
@click.option("--token-file", type=click.Path(path_type=Path), help="The server's token.json.")
@click.option("--cache-size", default=0, help="Bytes of objects to keep at most; 0 for no limit.")
@click.option(
    "--keep-free", default=2 * 2**30, show_default=True, help="Bytes to keep free on the disk of the objects."
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
    default=BUILD_CACHE_BYTES,
    show_default=True,
    help="Bytes that the caches of builds (--mount=type=cache) may have.",
)
@click.option("--orphan-seconds", default=60.0, show_default=True, help="How long to wait for a server that is gone.")
def main(
    data: Path,
    server: str,
    sources: tuple[str, ...],
    token_file: Path | None,
    cache_size: int,
    keep_free: int,
    disks: tuple[Path, ...],
    build_cache_size: int,
    orphan_seconds: float,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    directory = DataDirectory(data)
    directory.create()
    limits = Limits(cache_size, keep_free)
    agent = Agent(
        directory, server, sources, token_file or directory.token, limits, disks, build_cache_size, orphan_seconds
    )
    try:
        asyncio.run(agent.run())
    except JiffyError as error:
        click.echo(f"worker: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
