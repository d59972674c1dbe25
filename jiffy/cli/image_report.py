"""`jiffy image report`"""

from __future__ import annotations

import asyncio
import importlib
import json
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.image_export import open_objects
from jiffy.cli.server_address import ServerAddress, server_options
from jiffy.datadir import DataDirectory
from jiffy.errors import InvalidError, NotFoundError
from jiffy.image.index import Index
from jiffy.image.report import Contents, Overlap, Share, describe_contents, find_overlaps
from jiffy.image.tracing import Trace, trace_command
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest
from jiffy.worker.mounted import visit_image


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--trace", default="", metavar="COMMAND", help="Run this in the image, and count its calls. Needs root.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the overlap to this file: .svg, .png or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def report(images: tuple[str, ...], trace: str, picture: Path | None, as_json: bool, server: ServerAddress) -> None:
    """What images consist of: junk, what runs read, and what several have in common."""
    if trace and len(images) != 1:
        raise InvalidError("--trace takes one image")
    with open_objects(server) as find:
        contents = [_describe(image, server, find) for image in images]
    overlaps = find_overlaps(contents) if len(contents) > 1 else []
    traced = _trace(images[0], shlex.split(trace), server) if trace else None
    if picture is not None:
        importlib.import_module("jiffy.image.report_picture").draw_overlaps(contents, picture)
    if as_json:
        click.echo(json.dumps(_as_json(contents, overlaps, traced)))
        return
    console = Console()
    for each in contents:
        _print_contents(console, each)
    if overlaps:
        _print_overlaps(console, contents, overlaps)
    if traced is not None:
        _print_trace(console, traced, contents[0])


def _describe(image: str, server: ServerAddress, find: Callable[[Digest], Path]) -> Contents:
    layers = server.ask(f"/images/{image}/content")["layers"]
    tree = Tree([Index.from_file(find(layer)) for layer in layers])
    try:
        files = server.ask(f"/images/{image}/profile")["files"]
    except NotFoundError:
        return describe_contents(image, tree, None)
    read = {}
    for file in files:
        entry = tree.lookup(file["path"].encode("utf-8", "surrogateescape"))
        if entry is not None and entry.digest:
            read[entry.digest] = int(file["read"])
    return describe_contents(image, tree, read)


def _trace(image: str, command: Sequence[str], server: ServerAddress) -> Trace:
    described = server.ask(f"/images/{image}")
    traced: list[Trace] = []

    def visit(root: Path) -> None:
        traced.append(trace_command(root, command))

    with tempfile.TemporaryDirectory(dir=server.data.root) as folder:
        data = DataDirectory(Path(folder))
        asyncio.run(visit_image(data, described, (server.url,), server.token_file, visit))
    return traced[0]


def _as_json(contents: Sequence[Contents], overlaps: Sequence[Overlap], traced: Trace | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "images": [_summary(each) for each in contents],
        "overlaps": [asdict(each) for each in overlaps],
    }
    if traced is not None:
        told["trace"] = {**asdict(traced), "opened": sorted(traced.opened)}
    return told


def _summary(image: Contents) -> dict[str, Any]:
    numbers = {name: getattr(image, name) for name in ("name", "files", "folders", "links", "size", "unique_size")}
    shares = {name: [asdict(share) for share in getattr(image, name)] for name in ("junk", "places")}
    read = None if image.read is None else {"files": len(image.read), "size": sum(image.read.values())}
    return {**numbers, **shares, "read": read}


def _print_contents(console: Console, image: Contents) -> None:
    console.print(
        f"[bold]{image.name}[/]: {image.files} files in {image.folders} folders, {image.links} links, "
        f"{_megabytes(image.size)} ({_megabytes(image.unique_size)} of different contents)"
    )
    for title, shares in (("seldom needed", image.junk), ("largest folders", image.places)):
        table = Table(title, "files", "MB", "share", box=None)
        for share in shares:
            table.add_row(*_row(share, image))
        console.print(table)
    if image.read is None:
        console.print("no run of it was recorded: what runs read is not known\n")
        return
    files, size = len(image.read), sum(image.read.values())
    console.print(
        f"runs read {files} of {len(image.digests)} contents ({files / max(1, len(image.digests)):.1%}), "
        f"{_megabytes(size)} of {_megabytes(image.unique_size)} ({size / max(1, image.unique_size):.1%})\n"
    )


def _row(share: Share, image: Contents) -> tuple[str, str, str, str]:
    return share.name, str(share.files), f"{share.size / 1e6:.1f}", f"{share.size / max(1, image.size):.1%}"


def _print_overlaps(console: Console, contents: Sequence[Contents], overlaps: Sequence[Overlap]) -> None:
    sizes = {image.name: image.unique_size for image in contents}
    table = Table(
        "shared by", "same files", "MB of same contents", "share of the smallest", "read by all", "MB", box=None
    )
    for overlap in overlaps:
        smallest = min(sizes[name] for name in overlap.names)
        table.add_row(
            ", ".join(overlap.names),
            str(overlap.files),
            f"{overlap.size / 1e6:.1f}",
            f"{overlap.size / max(1, smallest):.1%}",
            str(overlap.read_files),
            f"{overlap.read_size / 1e6:.1f}",
        )
    console.print(table)


def _print_trace(console: Console, traced: Trace, image: Contents) -> None:
    table = Table("the command's calls", "count", "found nothing", box=None)
    table.add_row("stat and the like", str(traced.stats), str(traced.stats_missed))
    table.add_row("open", str(traced.opens), str(traced.opens_missed))
    console.print(table)
    share = len(traced.opened) / max(1, image.files)
    console.print(
        f"it opened {len(traced.opened)} different files, {share:.1%} of the image's; exit code {traced.exit_code}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
