"""`python -m jiffy.image.base_python`: run an image's own Python over a folder of this host, as root.

For what only that Python can do, such as bytecode, where the host has no Python of the same series. The image is
mounted, not copied, in a mount namespace that ends with the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from jiffy.fs.mount import bind_mount, mount_erofs, mount_overlay, private_mount_namespace
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Index
from jiffy.objects.base import Digest, object_path

FOLDER: Final = "/mnt"
"""Where the program finds the folder."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--objects", type=click.Path(path_type=Path), required=True)
@click.option("--scratch", type=click.Path(path_type=Path), required=True)
@click.option("--layer", "layers", multiple=True, required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.argument("command", nargs=-1, required=True)
def main(objects: Path, scratch: Path, layers: tuple[Digest, ...], folder: Path, command: tuple[str, ...]) -> None:
    """`scratch` is an empty folder on a disk; `layers` (bottom first) and all that they list must be in `objects`."""
    private_mount_namespace()
    root = _mount_image(objects, scratch, layers)
    bind_mount(folder, root / FOLDER.lstrip("/"))
    os.chroot(root)
    os.chdir("/")
    os.execve(command[0], command, {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"})


def _mount_image(objects: Path, scratch: Path, layers: tuple[Digest, ...]) -> Path:
    upper, work, root = (scratch / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    lowers = [_mount_layer(objects, scratch / str(number), layer) for number, layer in enumerate(layers)]
    mount_overlay(root, lowers[::-1], [objects], upper, work)
    return root


def _mount_layer(objects: Path, at: Path, layer: Digest) -> Path:
    at.mkdir()
    image = at.with_suffix(".erofs")
    with image.open("wb") as file:
        write_erofs(Index.from_file(objects / object_path(layer)), file)
    mount_erofs(image, at)
    return at


if __name__ == "__main__":
    main()
