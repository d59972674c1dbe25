"""`jiffy bench`"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any, Final

import click

from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError, NotFoundError

_SAMPLES: Final = 10
_NAMES: Final = ("start", "coldstart", "throughput", "metadata", "index", "memory")


@click.command()
@click.argument("name", type=click.Choice(_NAMES))
@data_option
@click.option("--samples", default=_SAMPLES, show_default=True, help="Samples of each figure.")
@click.option("--smoke", is_flag=True, help="Only see that it works: one sample.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(name: str, data: Path, samples: int, smoke: bool, as_json: bool) -> None:
    """Measure jiffy beside its peers and limits, with the server that runs. Needs root and jiffy's source."""
    if os.geteuid() != 0:
        raise ConflictError("a benchmark starts containers itself", hint="run as root")
    report = _find(name).run(DataDirectory(data), 1 if smoke else samples)
    if as_json:
        click.echo(json.dumps(report.describe(), indent=2))
    else:
        report.print()


def _find(name: str) -> Any:
    try:
        return importlib.import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        if error.name != "bench":
            raise
        raise NotFoundError(
            "the benchmarks are not installed", why="they come with jiffy's source", hint="run from a clone of it"
        ) from None
