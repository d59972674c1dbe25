"""`python -m jiffy.image.base_python`: run a base image's own Python over a folder of this host, as root.

For what only that Python can do, such as bytecode, where the host has no Python of the same series. The base is mounted,
not copied, in a mount namespace that ends with the process.
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
@click.option("--base", required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.argument("command", nargs=-1, required=True)
def main(objects: Path, scratch: Path, base: Digest, folder: Path, command: tuple[str, ...]) -> None:
    """`scratch` is an empty folder on a disk; all of the base's objects must be in `objects`."""
    private_mount_namespace()
    root = _mount_base(objects, scratch, base)
    bind_mount(folder, root / FOLDER.lstrip("/"))
    os.chroot(root)
    os.chdir("/")
    os.execve(command[0], command, {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"})


def _mount_base(objects: Path, scratch: Path, base: Digest) -> Path:
    image = scratch / "base.erofs"
    lower, upper, work, root = (scratch / name for name in ("lower", "upper", "work", "root"))
    for path in (lower, upper, work, root):
        path.mkdir()
    with image.open("wb") as file:
        write_erofs(Index.from_file(objects / object_path(base)), file)
    mount_erofs(image, lower)
    mount_overlay(root, [lower], [objects], upper, work)
    return root


if __name__ == "__main__":
    main()
