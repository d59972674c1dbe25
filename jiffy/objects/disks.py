"""Disks: the objects of a cache spread over several, so that their speeds add up, and one that fails takes only its share.

Which disk has an object follows from its digest's first byte: in the data directory `objects/aa` is a link to the folder of
the same name on that disk. So every process of the host finds objects where they are, and learns that a disk was given up
as soon as its links lead elsewhere. What was on it is fetched anew. The data directory's own disk is not one of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jiffy.errors import ConflictError, InvalidError
from jiffy.objects.base import NO_ROOM, Digest

logger = logging.getLogger(__name__)

FAILURES: Final = (errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN, errno.EUCLEAN)
"""What the errors of a disk that fails have as their number."""

_PROBE: Final = b"is this disk well?"
_FOLDERS: Final = ("objects", "incoming", "partial")


class Disks:
    """Those of the cache whose links are in the folder `links`. Each has the folders objects, incoming and partial. Without
    any, everything is at home, in the data directory. Thread-safe, and safe with other processes of the same cache."""

    def __init__(self, links: Path) -> None:
        self._links = links
        self._list = links.with_name("disks.json")
        self._lock = threading.Lock()

    @property
    def roots(self) -> tuple[Path, ...]:
        """The disks in use; none when everything is at home."""
        try:
            return tuple(Path(root) for root in json.loads(self._list.read_text()))
        except FileNotFoundError:
            return ()

    def of(self, digest: Digest) -> Path | None:
        """The disk of an object; None for home."""
        try:
            target = os.readlink(f"{self._links}/{digest[:2]}")  # noqa: PTH115
        except OSError:
            return None
        return Path(target).parent.parent

    def spread(self, roots: Sequence[Path]) -> None:
        """Use these from now on, but for those that fail. What is on others is left there. InvalidError for a place that is
        none, ConflictError when all fail."""
        well = tuple(root.absolute() for root in roots if _prepare(root))
        if roots and not well:
            raise ConflictError(f"no disk of {', '.join(map(str, roots))} is well", hint="mend one, or name another")
        with self._lock:
            if well != self.roots:
                self._point(well)

    def give_up(self, root: Path) -> bool:
        """Use a disk no more, as it fails. False when there would be none left to use instead."""
        with self._lock:
            left = tuple(each for each in self.roots if each != root)
            if not left or left == self.roots:
                return False
            logger.error("the disk at %s fails, and is used no more; what it had is fetched anew", root)
            self._point(left)
        return True

    def probe(self) -> None:
        """Give up those that fail."""
        for root in self.roots:
            if not _is_well(root):
                self.give_up(root)

    def blame(self, digest: Digest, error: OSError) -> bool:
        """Whether an error with an object means that its disk fails, which is given up then: another try may help."""
        root = self.of(digest)
        return error.errno in FAILURES and root is not None and not _is_well(root) and self.give_up(root)

    def _point(self, roots: tuple[Path, ...]) -> None:
        """Each link is changed at once, the list of disks last of all when there are fewer, first when there are more."""
        self._write_list(tuple(dict.fromkeys((*roots, *self.roots))))
        for number in range(256):
            link = self._links / f"{number:02x}"
            if roots:
                _make_link(link, roots[number % len(roots)] / "objects" / link.name)
            elif link.is_symlink():
                link.unlink()
        self._write_list(roots)

    def _write_list(self, roots: tuple[Path, ...]) -> None:
        temporary = self._list.with_name(f"{self._list.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_text(json.dumps([str(root) for root in roots]))
        temporary.rename(self._list)


def _make_link(link: Path, target: Path) -> None:
    """A folder from before there were disks is emptied: it is a cache."""
    target.mkdir(exist_ok=True)
    if link.is_symlink() and link.readlink() == target:
        return
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary = link.parent.with_name(f"link-{link.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.symlink_to(target)
    temporary.rename(link)


def _prepare(root: Path) -> bool:
    """Whether the disk is well; it has its folders then."""
    try:
        for name in _FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in FAILURES:
            raise InvalidError(f"cannot keep objects at {root}", why=error.strerror or str(error)) from error
    if not (is_well := _is_well(root)):
        logger.error("the disk at %s fails, and is not used", root)
    return is_well


def _is_well(root: Path) -> bool:
    """Whether it still takes bytes and gives them back."""
    path = root / "incoming" / f"{os.getpid()}-probe-{threading.get_ident()}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, _PROBE, 0)
            os.fsync(descriptor)
            return os.pread(descriptor, len(_PROBE), 0) == _PROBE
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
    except OSError as error:
        return error.errno in NO_ROOM
