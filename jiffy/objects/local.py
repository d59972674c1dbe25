"""Objects in a directory: each a complete, verified, read-only file. Several processes may share it.

An object is written to a temporary file beside the store, synced, and renamed into place, so a reader finds all of it or
nothing. Temporary files are named for the process that writes them; `sweep` removes those of the dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from jiffy import failpoints
from jiffy.errors import CorruptError, ExhaustedError, NotFoundError
from jiffy.objects.base import NO_ROOM, PART_BYTES, Digest, object_path
from jiffy.objects.disks import FAILURES, Disks

_MODE: Final = 0o444
_NEW_SECONDS: Final = 60.0
"""An object that was kept so recently is not marked again."""

_TEMPORARY: Final = re.compile(r"(\d+)-.+")
_serial = itertools.count()


class ObjectWriter:
    """Takes an object's bytes as they come; `publish` makes it visible, leaving without it discards. Thousands are made in
    a cold start, so paths are plain text here."""

    def __init__(self, store: LocalObjects, expected: Digest = "") -> None:
        self._store = store
        self._expected = expected
        disk = store.disks.of(expected) if expected else None
        folder = store.incoming if disk is None else disk / "incoming"
        self._path = f"{folder}/{os.getpid()}-{next(_serial)}"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        self._hash = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()

    def write(self, chunk: bytes | memoryview) -> None:
        self._hash.update(chunk)
        self._size += len(chunk)
        with _explain_disk():
            written = os.write(self._descriptor, chunk)
            while written < len(chunk):
                written += os.write(self._descriptor, memoryview(chunk)[written:])

    def seal(self) -> tuple[Digest, int]:
        """End the writing and check the digest; gives digest and size. Nothing is visible yet."""
        digest = self._hash.hexdigest()
        if self._expected and digest != self._expected:
            raise CorruptError(f"object {self._expected} has the wrong bytes", why=f"their digest is {digest}")
        return digest, self._size

    def publish(self) -> tuple[Digest, int]:
        """Sync if the store is durable, and make visible; gives digest and size. CorruptError when the digest is not the
        expected one."""
        digest, size = self.seal()
        if self._store.durable:
            with _explain_disk():
                os.fsync(self._descriptor)
        failpoints.reach("object-verified")
        self._move_to(f"{self._store.root}/{object_path(digest)}")
        failpoints.reach("object-published")
        if self._store.durable:
            _sync_directory(self._store.path(digest).parent)
        return digest, size

    def close(self) -> None:
        """Give back the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Forget what was not published."""
        self.close()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108
            self._path = ""

    def _move_to(self, target: str) -> None:
        with _explain_disk():
            try:
                os.rename(self._path, target)  # noqa: PTH104
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
                os.rename(self._path, target)  # noqa: PTH104
        self._path = ""


class ObjectBatch:
    """Many objects that become visible together when the batch ends: one sync for all of them."""

    def __init__(self, store: LocalObjects) -> None:
        self._store = store
        self._sealed: dict[Digest, str] = {}

    def __enter__(self) -> ObjectBatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for path in self._sealed.values():
                Path(path).unlink(missing_ok=True)

    def put(self, data: bytes) -> Digest:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._sealed and not self._store.keep(digest):
            with self.writer() as writer:
                writer.write(data)
                writer.publish()
        return digest

    def adopt(self, path: Path) -> Digest:
        """Make a file of the same disk an object by moving it. Nobody else may have it open."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in self._sealed or self._store.keep(digest):
            path.unlink()
            return digest
        if not self._store.durable:
            self._copy(path, digest)
            return digest
        sealed = self._store.incoming / f"{os.getpid()}-{next(_serial)}"
        path.rename(sealed)
        sealed.chmod(_MODE)
        self._sealed[digest] = str(sealed)
        return digest

    def _copy(self, path: Path, digest: Digest) -> None:
        """A cache may be spread over several disks."""
        with self._store.writer(digest) as writer, path.open("rb") as file:
            while chunk := file.read(PART_BYTES):
                writer.write(chunk)
            writer.publish()
        path.unlink()

    def copy(self, path: Path) -> Digest:
        """Make an object of a file's content."""
        with self.writer() as writer, path.open("rb") as file:
            while chunk := file.read(PART_BYTES):
                writer.write(chunk)
            return writer.publish()[0]

    def writer(self) -> BatchWriter:
        return BatchWriter(self._store, self._sealed)

    def _publish(self) -> None:
        if not self._sealed:
            return
        with _explain_disk():
            sync_filesystem(self._store.incoming)
            parents = {self._store.root / digest[:2] for digest in self._sealed}
            for parent in parents:
                parent.mkdir(parents=True, exist_ok=True)
            for digest, path in self._sealed.items():
                os.rename(path, f"{self._store.root}/{object_path(digest)}")  # noqa: PTH104, thousands of them
            for parent in parents:
                _sync_directory(parent)
        self._sealed.clear()


class BatchWriter(ObjectWriter):
    """A writer whose objects wait for the end of their batch."""

    def __init__(self, store: LocalObjects, sealed: dict[Digest, str]) -> None:
        super().__init__(store)
        self._sealed = sealed

    def publish(self) -> tuple[Digest, int]:
        digest, size = self.seal()
        if digest not in self._sealed and not self._store.keep(digest):
            self._sealed[digest] = self._path
            self._path = ""
        return digest, size


class LocalObjects:
    """The objects below `root`; `incoming` is on the same filesystem and holds what is being written. Those of a cache are
    not `durable`: they can be had again, and objects/recovery.py drops what a crash of the machine broke. They may be spread
    over several disks."""

    def __init__(self, root: Path, incoming: Path, *, durable: bool = True) -> None:
        self.root = root
        self.incoming = incoming
        self.durable = durable
        self.disks = Disks(root)
        self._collecting = threading.Lock()

    def path(self, digest: Digest) -> Path:
        return self.root / object_path(digest)

    def has(self, digest: Digest) -> bool:
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int | None:
        """Bytes; None when it is not here. The empty object is always here, as no file needs it."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: Digest) -> bytes:
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"no object {digest}") from None

    def keep(self, digest: Digest) -> bool:
        """Whether an object is here; if so, it counts as new for whoever collects old ones."""
        path = f"{self.root}/{object_path(digest)}"
        with self._collecting:
            try:
                if os.stat(path).st_mtime < time.time() - _NEW_SECONDS:  # noqa: PTH116, thousands of them
                    os.utime(path)
            except FileNotFoundError:
                return False
        return True

    def delete_older(self, digest: Digest, until: float, *, dry_run: bool = False) -> int | None:
        """Delete an object that was neither stored nor kept since a time; gives its size, None when it stays."""
        path = self.path(digest)
        with self._collecting:
            try:
                status = path.stat()
            except FileNotFoundError:
                return None
            if status.st_mtime >= until:
                return None
            if not dry_run:
                path.unlink()
        return status.st_size

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are not here; the others are kept."""
        return [digest for digest in digests if not self.keep(digest)]

    def put(self, data: bytes, expected: Digest | None = None) -> Digest:
        """Store; durable on return. CorruptError when the data is not what was expected."""
        digest = hashlib.sha256(data).hexdigest()
        if self.keep(digest) and expected in (None, digest):
            return digest
        with self.writer(expected or digest) as writer:
            writer.write(data)
            return writer.publish()[0]

    def writer(self, expected: Digest = "") -> ObjectWriter:
        """For an object whose digest is known; that has to be so where objects are spread over disks."""
        with _explain_disk():
            return ObjectWriter(self, expected)

    def batch(self) -> ObjectBatch:
        return ObjectBatch(self)

    def delete(self, digest: Digest) -> None:
        self.path(digest).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Digest]:
        for folder in sorted(self.root.iterdir()):
            for file in sorted(folder.iterdir()):
                yield folder.name + file.name

    def sweep(self) -> None:
        """Remove what processes that no longer live left half written: files and folders named `PID-...`."""
        folders = (self.incoming, *(root / "incoming" for root in self.disks.roots))
        for path in (path for folder in folders for path in folder.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match is None or Path(f"/proc/{match[1]}").exists():
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def _explain_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise ExhaustedError(
                "cannot store an object", why="the disk is full", hint="free space where the data directory is"
            ) from error
        if error.errno in FAILURES:
            raise ExhaustedError("cannot store an object", why=f"the disk fails: {error.strerror}") from error
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
