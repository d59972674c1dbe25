"""`jiffy image seek-index`"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict

import click

from jiffy.cli.image_export import first_read
from jiffy.cli.image_import import progress_bar
from jiffy.cli.registry_options import find_credentials, mirrors_option, username_option
from jiffy.cli.server_address import ServerAddress, optional_server_options
from jiffy.errors import InvalidError
from jiffy.image.importing import Progress
from jiffy.image.manifest import parse_platform
from jiffy.image.oci import open_registry
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Registry
from jiffy.image.seekable import Attached, attach_seek_indexes


@click.command("seek-index")
@click.argument("source")
@click.option("--platform", default="linux/amd64", show_default=True, help="Which one of several.")
@username_option
@mirrors_option
@click.option("--profile", metavar="IMAGE", default="", help="What starts of an image of the server read comes first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@optional_server_options
def seek_index(
    source: str,
    platform: str,
    username: str,
    mirrors: dict[str, str],
    profile: str,
    as_json: bool,
    find_server: Callable[[], ServerAddress],
) -> None:
    """Let an ordinary image start before it is downloaded, as it is.

    SOURCE is docker://NAME. The image is read once, here; what tells where its files are in its layers is pushed
    beside it, to the same repository. Any jiffy server that is asked for the image by its name finds it there. No
    server is needed.
    """
    kind, _, rest = source.partition("://")
    if kind != "docker" or not rest:
        raise InvalidError(f"{source!r} is no image of a registry", hint="write docker://NAME[:TAG]")
    reference = parse_reference(rest)
    credentials = find_credentials(username)
    first = first_read(profile, find_server()) if profile else []

    async def run(progress: Progress) -> Attached:
        async with (
            open_registry(reference, parse_platform(platform), credentials, mirrors) as image,
            Registry(reference, credentials, mirrors, can_push=True) as registry,
        ):
            return await attach_seek_indexes(registry, image, progress, first)

    with progress_bar("reading", shown=not as_json) as progress:
        attached = asyncio.run(run(progress))
    if as_json:
        click.echo(json.dumps(asdict(attached)))
        return
    share = attached.size / max(attached.layers_size, 1)
    click.echo(
        f"{attached.layers} layers of {reference} can be read in parts: {attached.digest}, "
        f"{attached.size / 1e6:.1f} MB beside {attached.layers_size / 1e6:.1f} MB ({share:.1%})"
    )
