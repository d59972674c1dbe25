"""`jiffy cache`"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import NotFoundError
from jiffy.objects.local import LocalObjects
from jiffy.objects.scrub import Findings, Scrubber
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

_AS_FAST_AS_IT_GOES: Final = 1e12


@click.group()
def cache() -> None:
    """Show and check the objects that this machine holds."""


@cache.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(data: Path, as_json: bool) -> None:
    """How many objects there are, what room they take, what is here in part, and what was put aside."""
    directory, objects = _open(data)
    sizes = [objects.path(digest).stat().st_size for digest in objects]
    aside = len(list(directory.quarantine.iterdir())) if directory.quarantine.exists() else 0
    parts = [path.stat().st_blocks * 512 for path in directory.partial.glob("*") if path.suffix != ".have"]
    free = shutil.disk_usage(directory.root).free
    figures = {"objects": len(sizes), "bytes": sum(sizes), "partial": len(parts), "partial_bytes": sum(parts)}
    figures |= {"bytes_free": free, "put_aside": aside}
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo(
            f"{len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB; {len(parts)} in part, {sum(parts) / 1e6:.1f} MB; "
            f"{free / 1e9:.1f} GB free; {aside} put aside"
        )


@cache.command()
@data_option
@click.option("--source", "sources", multiple=True, help="Where to fetch broken objects from: http://, s3:// ...")
@click.option("--token-file", type=click.Path(path_type=Path), help="The server's token.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scrub(data: Path, sources: tuple[str, ...], token_file: Path | None, as_json: bool) -> None:
    """Read every object again; mend what is broken, or put it aside. Exit code 1 when something was put aside."""
    directory, objects = _open(data)
    token = read_token(token_file or directory.token) if sources else ""
    scrubber = Scrubber(Tiers(objects, open_sources(sources, token)), directory.quarantine, _AS_FAST_AS_IT_GOES)
    findings = _run(scrubber, objects)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(findings)))
    else:
        click.echo(
            f"{findings.objects} objects read, {findings.mended} mended, {findings.put_aside} put aside"
            + (f" in {directory.quarantine}" if findings.put_aside else "")
        )
    if findings.put_aside:
        sys.exit(1)


def _open(data: Path) -> tuple[DataDirectory, LocalObjects]:
    directory = DataDirectory(data)
    if not directory.objects.exists():
        raise NotFoundError(f"{data} holds no objects", hint="name another data directory with --data")
    return directory, LocalObjects(directory.objects, directory.incoming)


def _run(scrubber: Scrubber, objects: LocalObjects) -> Findings:
    total = sum(objects.path(digest).stat().st_size for digest in objects)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total)
        return scrubber.run(threading.Event(), lambda found: progress.update(task, completed=found.size))
