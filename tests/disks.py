"""Disks of the tests' own: filesystems on files, which can fail, and lose power."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on the filesystem fails as on a disk that is gone."""

_WITHOUT_LOG = 2


@dataclass(frozen=True)
class Disk:
    """An ext4 at `folder`, on a file beside it."""

    folder: Path
    image: Path

    def fail(self) -> None:
        """Whatever was not synced is lost, as is what comes."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("<I", _WITHOUT_LOG))
        finally:
            os.close(descriptor)

    def boot(self) -> None:
        """With a copy of what the disk has. Another mount namespace, made meanwhile, may still have the disk that failed,
        whose file system writes the head of its journal anew when it goes at last: all synced since would be lost."""
        self.unmount()
        copy = self.image.with_suffix(".copy")
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        copy.rename(self.image)
        self.mount()

    def mount(self) -> None:
        attach = ["losetup", "--find", "--show", str(self.image)]
        device = subprocess.run(attach, capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["mount", device, str(self.folder)], check=True)
        subprocess.run(["losetup", "--detach", device], check=True)  # once it is not mounted any more

    def unmount(self) -> None:
        """Whoever was killed a moment ago may still have it open."""
        deadline = time.monotonic() + 20
        while (done := subprocess.run(["umount", str(self.folder)], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.05)


@contextmanager
def open_disk(yard: Path, size: int) -> Iterator[Disk]:
    """In a yard that is shared with all mount namespaces: what is unmounted here is unmounted in most of the others too, and
    the loop device goes."""
    yard.mkdir()
    subprocess.run(["mount", "--bind", str(yard), str(yard)], check=True)
    subprocess.run(["mount", "--make-shared", str(yard)], check=True)
    try:
        with _open_disk(yard / "disk", yard.with_suffix(".img"), size) as disk:
            yield disk
    finally:
        subprocess.run(["umount", str(yard)], check=True)
        yard.rmdir()


@contextmanager
def _open_disk(folder: Path, image: Path, size: int) -> Iterator[Disk]:
    disk = Disk(folder, image)
    with disk.image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk.image)], check=True)
    folder.mkdir()
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
        folder.rmdir()
        disk.image.unlink()
