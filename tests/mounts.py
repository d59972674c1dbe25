"""Mounts made by tests, taken away afterwards whatever happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jiffy.fs.mount import mount_erofs, mount_overlay, unmount
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, encode_index


def write_image(tree: Sequence[Entry], path: Path) -> Path:
    with path.open("wb") as file:
        write_erofs(Index.load(encode_index(tree)), file)
    return path


@contextmanager
def mounted_image(tree: Sequence[Entry], folder: Path) -> Iterator[Path]:
    """The EROFS image of a tree, mounted below a folder."""
    at = folder / "image"
    at.mkdir()
    mount_erofs(write_image(tree, folder / "image.erofs"), at)
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def mounted_root(tree: Sequence[Entry], data: Sequence[Path], folder: Path) -> Iterator[Path]:
    """A writable root of a tree, whose contents are in the data layers."""
    upper, work, at = folder / "upper", folder / "work", folder / "root"
    for path in (upper, work, at):
        path.mkdir()
    with mounted_image(tree, folder) as lower:
        mount_overlay(at, [lower], data, upper, work)
        try:
            yield at
        finally:
            unmount(at)
