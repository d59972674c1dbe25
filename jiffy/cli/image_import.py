"""`jiffy image import`"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from jiffy.cli.registry_options import find_credentials, mirrors_option, username_option
from jiffy.cli.server_address import ServerAddress, server_options
from jiffy.datadir import DataDirectory
from jiffy.errors import InvalidError
from jiffy.image.importing import Imported, KnownLayers, Progress
from jiffy.image.index import Index
from jiffy.image.manifest import parse_platform
from jiffy.image.origins import Access, import_origin, parse_origin
from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects

_DEFAULT_CACHE: Final = "~/.cache/jiffy/import"


@click.command("import")
@click.argument("source")
@click.option("--name", "names", multiple=True, metavar="NAME[:TAG]", help="What modal.Image.from_name() finds it by.")
@click.option("--platform", default="linux/amd64", show_default=True, help="Which one of several.")
@username_option
@mirrors_option
@click.option("--lazy", is_flag=True, help="Leave files in the registry, where its layers can be read in parts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def import_image(
    source: str,
    names: tuple[str, ...],
    platform: str,
    username: str,
    mirrors: dict[str, str],
    lazy: bool,
    as_json: bool,
    server: ServerAddress,
) -> None:
    """Bring an image to the server.

    SOURCE is docker://NAME for an image of a registry, oci:FOLDER[:NAME], oci-archive:FILE[:NAME],
    docker-archive:FILE[:NAME], or dir:FOLDER and tar:FILE for a root. Programs find it by the names given, and by its own:
    modal.Image.from_registry("NAME") then asks no registry.
    """
    origin = parse_origin(source)
    credentials = find_credentials(username)
    if lazy and (origin.reference is None or server.is_elsewhere):
        raise InvalidError(
            "--lazy is for images of registries", hint="and for the server on this host's data directory"
        )
    remote = server.data.remote if lazy else None
    access = Access(parse_platform(platform), credentials, mirrors, remote, trusts_artifacts=True)
    with _workplace(server) as data, progress_bar("importing", shown=not as_json) as progress:
        objects = LocalObjects(data.objects, data.incoming, durable=not server.is_elsewhere)
        known = KnownLayers(data.layers, objects)
        imported = asyncio.run(import_origin(origin, access, objects, known, progress))
        if server.is_elsewhere:
            _send(imported, objects, server)
    references = [str(origin.reference)] if origin.reference is not None else list(imported.names)
    order = {
        "index": imported.index,
        "config": imported.config,
        "references": references,
        "names": names,
        "first": imported.first,
        "lazy": lazy and not progress.total,
    }
    made = server.ask("/images", order)
    _tell(made, imported, progress, as_json)


@contextmanager
def _workplace(server: ServerAddress) -> Iterator[DataDirectory]:
    """The server's own store where it is on this host, else a cache here."""
    data = server.data if not server.is_elsewhere else DataDirectory(Path(_DEFAULT_CACHE).expanduser())
    data.create()
    yield data


@contextmanager
def progress_bar(what: str, *, shown: bool) -> Iterator[Progress]:
    """Bytes of layers and files, as they are read."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]} files"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, files=0)

        def tell(progress: Progress) -> None:
            bar.update(
                task, total=progress.total or None, completed=progress.read + progress.known, files=progress.files
            )

        yield Progress(tell=tell)


def _send(imported: Imported, objects: LocalObjects, server: ServerAddress) -> None:
    """What the server lacks, the index last."""
    store = HttpObjects(server.url, server.token)
    listed = [digest for digest, _ in Index.from_file(objects.path(imported.index)).digests()]
    for digest in [*store.missing(listed), imported.index]:
        store.store(digest, objects.path(digest))


def _tell(made: dict[str, Any], imported: Imported, progress: Progress, as_json: bool) -> None:
    told = {
        "image_id": made["image_id"],
        "files": imported.files,
        "size": imported.size,
        "read": progress.read,
        "known": progress.known,
        "python": made["python"],
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    known = f", {progress.known / 1e6:.1f} MB of layers were here already" if progress.known else ""
    click.echo(f"{made['image_id']}: {imported.files} files, {imported.size / 1e6:.1f} MB{known}")
