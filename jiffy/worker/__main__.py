"""`python -m jiffy.worker`: the worker of the server that shares its data directory. `jiffy serve` starts it."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.worker.agent import Agent, WorkerOptions
from jiffy.worker.gpus import VARIABLE, read_inventory


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--gpu", "gpus", multiple=True, envvar=VARIABLE)
def main(data: Path, gpus: tuple[str, ...]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    directory = DataDirectory(data)
    directory.create()
    try:
        asyncio.run(Agent(directory, WorkerOptions(gpus=read_inventory(gpus))).run())
    except JiffyError as error:
        click.echo(f"worker: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
