"""`jiffy image`"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.image_export import convert, push, save
from jiffy.cli.image_import import import_image
from jiffy.cli.image_report import report
from jiffy.cli.image_seek_index import seek_index
from jiffy.cli.server_address import ServerAddress, server_options
from jiffy.datadir import DataDirectory
from jiffy.worker.mounted import mount_image


@click.group()
def image() -> None:
    """Bring images to a server, show them, mount them."""


@image.command("list")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_images(server: ServerAddress, as_json: bool) -> None:
    """All images that were made."""
    images = server.ask("/images")
    if as_json:
        click.echo(json.dumps(images))
        return
    table = Table("image", "Python", "layers", "files", "MB", "made", "names", box=None)
    for each in images:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created_at"]))
        size = f"{each['size'] / 1e6:.1f}"
        table.add_row(
            each["image_id"],
            each["python"],
            str(each["layers"]),
            str(each["files"]),
            size,
            made,
            " ".join(each["names"]),
        )
    Console().print(table)


@image.command()
@click.argument("image_id", metavar="IMAGE")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def profile(image_id: str, server: ServerAddress, as_json: bool) -> None:
    """What starts of an image read, in the order of their reading."""
    found = server.ask(f"/images/{image_id}/profile")
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table("file", "kB", "read", box=None)
    for file in found["files"]:
        table.add_row(file["path"], f"{file['size'] / 1e3:.1f}", f"{100 * file['read'] // max(1, file['size'])}%")
    Console().print(table)
    total = sum(file["read"] for file in found["files"])
    click.echo(f"{len(found['files'])} files, {total / 1e6:.1f} MB; from {found['runs']} runs")


@image.command()
@click.argument("image_id", metavar="IMAGE")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@server_options
@click.option("--source", "sources", multiple=True, help="Where to look for objects before the server, nearest first.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Where to keep what was fetched.")
def mount(image_id: str, folder: Path, server: ServerAddress, sources: tuple[str, ...], cache: Path | None) -> None:
    """Mount an image on a folder until interrupted. Contents are fetched as they are read; what is written is lost at the
    end. Needs root."""
    described = server.ask(f"/images/{image_id}")
    kept = DataDirectory(cache or server.data.root / "mounted" / image_id)

    def report() -> None:
        click.echo(f"{image_id} is mounted on {folder}; Ctrl-C unmounts it")

    asyncio.run(mount_image(kept, described, folder.resolve(), (*sources, server.url), server.token_file, report))


for _command in (convert, import_image, push, report, save, seek_index):
    image.add_command(_command)
