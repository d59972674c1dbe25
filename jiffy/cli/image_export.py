"""`jiffy image push`, `save` and `convert`"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from jiffy.cli.registry_options import find_credentials, username_option
from jiffy.cli.server_address import ServerAddress, server_options
from jiffy.datadir import DataDirectory
from jiffy.errors import InvalidError, NotFoundError
from jiffy.image.estargz_writer import write_estargz
from jiffy.image.export import (
    COMPRESSIONS,
    DockerArchive,
    Exportable,
    LayerFile,
    Layout,
    Target,
    chunks_of,
    export_image,
    pack_layout,
    write_layer,
)
from jiffy.image.index import Index
from jiffy.image.manifest import Descriptor
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Registry
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

_CACHE: Final = "~/.cache/jiffy/export"


@click.command()
@click.argument("image")
@click.argument("target")
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="gzip", show_default=True)
@username_option
@server_options
def push(image: str, target: str, compression: str, username: str, server: ServerAddress) -> None:
    """Push an image to a registry, as TARGET such as registry.example.com/team/name:tag."""
    reference = parse_reference(target.removeprefix("docker://"))

    async def run() -> str:
        async with Registry(reference, find_credentials(username), can_push=True) as registry:
            return await _export(image, server, Pushed(registry, reference.tag), compression)

    digest = asyncio.run(run())
    click.echo(f"pushed {reference}, {digest}")


@click.command()
@click.argument("image")
@click.argument("target")
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="gzip", show_default=True)
@server_options
def save(image: str, target: str, compression: str, server: ServerAddress) -> None:
    """Save an image as TARGET: oci:FOLDER[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]."""
    kind, _, rest = target.partition(":")
    place, _, name = rest.partition(":")
    path = Path(place)
    if kind not in ("oci", "oci-archive", "docker-archive") or not place:
        raise InvalidError(
            f"cannot save to {target!r}", hint="write oci:FOLDER, oci-archive:FILE or docker-archive:FILE"
        )
    if kind == "oci":
        asyncio.run(_export(image, server, Layout(path, name), compression))
    elif kind == "docker-archive":
        asyncio.run(_export(image, server, DockerArchive(path, name), "none"))
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            asyncio.run(_export(image, server, Layout(Path(folder), name), compression))
            pack_layout(Path(folder), path)
    click.echo(f"saved {image} to {target}")


@click.command()
@click.argument("image")
@click.argument("target")
@click.option("--estargz", is_flag=True, required=True, help="As a tar.gz that can be read in parts.")
@username_option
@server_options
def convert(image: str, target: str, estargz: bool, username: str, server: ServerAddress) -> None:
    """Write an image in a form that starts before it is downloaded, to docker://NAME:TAG or oci:FOLDER[:NAME].

    What starts of it read, as far as it was recorded, comes first. Any other tool pulls it as an ordinary image.
    """
    kind, _, rest = target.partition(":")
    first = first_read(image, server)
    if kind == "oci" and rest:
        place, _, name = rest.partition(":")
        digest = asyncio.run(_export(image, server, Layout(Path(place), name), "gzip", first))
    elif kind == "docker":
        reference = parse_reference(rest.removeprefix("//"))

        async def run() -> str:
            async with Registry(reference, find_credentials(username), can_push=True) as registry:
                return await _export(image, server, Pushed(registry, reference.tag), "gzip", first)

        digest = asyncio.run(run())
    else:
        raise InvalidError(f"cannot convert to {target!r}", hint="write docker://NAME:TAG or oci:FOLDER")
    click.echo(f"converted {image} to {target}, {digest}; {len(first)} files come first")


def first_read(image: str, server: ServerAddress) -> list[Digest]:
    """The objects that starts read, in order; none when nothing was recorded."""
    try:
        files = server.ask(f"/images/{image}/profile")["files"]
    except NotFoundError:
        return []
    layers = server.ask(f"/images/{image}/content")["layers"]
    with open_objects(server) as find:
        tree = Tree([Index.from_file(find(layer)) for layer in layers])
    entries = [tree.lookup(file["path"].encode("utf-8", "surrogateescape")) for file in files]
    return [entry.digest for entry in entries if entry is not None and entry.digest]


class Pushed:
    """A repository of a registry as the target of an export."""

    def __init__(self, registry: Registry, tag: str) -> None:
        self._registry = registry
        self._tag = tag

    async def add(self, descriptor: Descriptor, content: Path | bytes) -> None:
        await self._registry.upload(descriptor, lambda: chunks_of(content))

    async def finish(self, manifest: bytes, descriptor: Descriptor, config: bytes, layers: object) -> None:
        await self._registry.publish(self._tag or descriptor.digest, descriptor.media_type, manifest)


async def _export(
    image: str, server: ServerAddress, target: Target, compression: str, first: Sequence[Digest] | None = None
) -> str:
    """The manifest's digest. With `first`, layers can be read in parts, and these objects come first in them."""
    told = await asyncio.to_thread(server.ask, f"/images/{image}/content")
    exportable = Exportable(tuple(told["layers"]), told["config"], told["created_at"])
    with open_objects(server) as find, tempfile.TemporaryDirectory(dir=_scratch(server)) as folder:

        def load(digest: Digest) -> Index:
            return Index.from_file(find(digest))

        def write(index: Index, path: Path) -> LayerFile:
            if first is not None:
                return write_estargz(index, find, path, first)
            return write_layer(index, find, path, compression)

        with Console(stderr=True).status(f"writing {len(exportable.layers)} layers"):
            return await export_image(exportable, load, write, Path(folder), target)


@contextmanager
def open_objects(server: ServerAddress) -> Iterator[Callable[[Digest], Path]]:
    """Gives the file of an object: of the server's store where it is here, else fetched to a cache."""
    if not server.is_elsewhere:
        yield LocalObjects(server.data.objects, server.data.incoming).path
        return
    data = DataDirectory(Path(_CACHE).expanduser())
    data.create()
    tiers = Tiers(LocalObjects(data.objects, data.incoming, durable=False), open_sources((server.url,), server.token))
    yield tiers.ensure
    shutil.rmtree(data.root, ignore_errors=True)


def _scratch(server: ServerAddress) -> Any:
    return None if server.is_elsewhere else server.data.incoming
