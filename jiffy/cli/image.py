"""`jiffy image`"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.running import ask_server, data_option, find_server
from jiffy.datadir import DataDirectory
from jiffy.worker.mounted import mount_image

F = TypeVar("F", bound=Callable[..., Any])


def _server_options(command: F) -> F:
    """Adds --server and --token-file, for a server elsewhere than on --data."""
    token = click.option("--token-file", type=click.Path(path_type=Path, exists=True), help="That server's token.json.")
    return data_option(
        click.option("--server", default="", help="The HTTP address of a server elsewhere.")(token(command))
    )


@click.group()
def image() -> None:
    """Show images of a server, and mount them."""


@image.command("list")
@_server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_images(data: Path, server: str, token_file: Path | None, as_json: bool) -> None:
    """All images that were made."""
    images = ask_server(*_address(data, server, token_file), "/images")
    if as_json:
        click.echo(json.dumps(images))
        return
    table = Table("image", "Python", "layers", "files", "MB", "made", box=None)
    for each in images:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created_at"]))
        size = f"{each['size'] / 1e6:.1f}"
        table.add_row(each["image_id"], each["python"], str(each["layers"]), str(each["files"]), size, made)
    Console().print(table)


@image.command()
@click.argument("image_id", metavar="IMAGE")
@_server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def profile(image_id: str, data: Path, server: str, token_file: Path | None, as_json: bool) -> None:
    """What starts of an image read, in the order of their reading."""
    found = ask_server(*_address(data, server, token_file), f"/images/{image_id}/profile")
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
@_server_options
@click.option("--source", "sources", multiple=True, help="Where to look for objects before the server, nearest first.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Where to keep what was fetched.")
def mount(
    image_id: str,
    folder: Path,
    data: Path,
    server: str,
    token_file: Path | None,
    sources: tuple[str, ...],
    cache: Path | None,
) -> None:
    """Mount an image on a folder until interrupted. Contents are fetched as they are read; what is written is lost at the
    end. Needs root."""
    url, token = _address(data, server, token_file)
    described = ask_server(url, token, f"/images/{image_id}")
    kept = DataDirectory(cache or data / "mounted" / image_id)

    def report() -> None:
        click.echo(f"{image_id} is mounted on {folder}; Ctrl-C unmounts it")

    asyncio.run(mount_image(kept, described, folder.resolve(), (*sources, url), token, report))


def _address(data: Path, server: str, token_file: Path | None) -> tuple[str, Path]:
    directory = DataDirectory(data)
    return server or find_server(directory).http_url, token_file or directory.token
