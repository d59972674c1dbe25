"""Folders that have nothing to do with each other, laid apart on the disk.

ext4 puts a new folder beside its parent and looks there for a free inode. Where many folders were deleted lately, as those
of containers are, it passes each inode of theirs, which it does not give out again for minutes: a tenth of the time in which
a hundred containers start.
"""

from __future__ import annotations

import os
import struct
from fcntl import ioctl
from pathlib import Path
from typing import Final

_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_TOPDIR_FL: Final = 0x00020000
_FLAGS: Final = struct.Struct("=I")


def spread_folders(folder: Path) -> bool:
    """Have the folders that are made in `folder` from now on laid apart, each with what it gets; False where the file system
    has no such choice."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (flags,) = _FLAGS.unpack(ioctl(descriptor, _FS_IOC_GETFLAGS, _FLAGS.pack(0)))
        ioctl(descriptor, _FS_IOC_SETFLAGS, _FLAGS.pack(flags | _FS_TOPDIR_FL))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
