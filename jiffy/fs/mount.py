"""Mounts, by system call: a private mount namespace, EROFS images, the overlay of a container's root, FUSE.

The new mount API (fsopen, fsconfig, fsmount, move_mount) takes layers one by one, so no path has to be escaped and no
list is too long; where the kernel's overlayfs lacks it, the string form is used.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError, UnsupportedError

_libc: Final = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS: Final = 0x20000
_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SLAVE: Final = 1 << 19
_MS_SHARED: Final = 1 << 20
_MS_REMOUNT: Final = 32
_MNT_DETACH: Final = 2

_SYS_MOVE_MOUNT: Final = 429
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_CLOEXEC: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_AT_FDCWD: Final = -100

_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LO_FLAGS_READ_ONLY: Final = 1
_LO_FLAGS_AUTOCLEAR: Final = 4


def private_mount_namespace() -> None:
    """Move this process to a mount namespace of its own: what it mounts nobody else sees, and ends with it. What the host
    unmounts is not kept."""
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise _failure("make a mount namespace", Path("/"))
    _mount("none", Path("/"), None, _MS_REC | _MS_SLAVE)


def mount_erofs(image: Path, at: Path) -> None:
    """Mount an image file; through a loop device where the kernel cannot mount from a file."""
    try:
        _mount(str(image), at, "erofs", _MS_RDONLY | _MS_NODEV)
    except OSError as error:
        if error.errno != errno.ENOTBLK:
            raise _explain(error, f"mount {image}", at) from error
        _mount_erofs_by_loop(image, at)


def mount_overlay(at: Path, lowers: Sequence[Path], data: Sequence[Path], upper: Path, work: Path) -> None:
    """Mount a writable root: `lowers` topmost first, `data` are the layers where redirects are looked up, in order."""
    try:
        _mount_overlay_by_parts(at, lowers, data, upper, work)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise _explain(error, "mount an overlay", at) from error
        _mount_overlay_by_string(at, lowers, data, upper, work)


def mount_fuse(at: Path, name: str, longest_read: int) -> int:
    """Mount a read-only FUSE filesystem; gives the descriptor on which its requests arrive. `longest_read` in bytes."""
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    try:
        _mount(name, at, f"fuse.{name}", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, f"{options},max_read={longest_read}")
    except OSError as error:
        os.close(descriptor)
        raise _explain(error, "mount the lazy layer", at) from error
    return descriptor


def mount_tmpfs(at: Path, size: int = 0) -> None:
    """`size` in bytes; 0 for the kernel's default, half of the memory."""
    try:
        _mount("tmpfs", at, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=0755,size={size}" if size else "mode=0755")
    except OSError as error:
        raise _explain(error, "mount a tmpfs", at) from error


def bind_mount(source: Path, at: Path) -> None:
    """Show a folder, and all that is mounted in it, at another place too."""
    try:
        _mount(str(source), at, None, _MS_BIND | _MS_REC)
    except OSError as error:
        raise _explain(error, f"bind {source}", at) from error


def make_shared(at: Path) -> None:
    """What is mounted there from now on appears in the namespaces that get a copy of the mount."""
    try:
        _mount("none", at, None, _MS_SHARED)
    except OSError as error:
        raise _explain(error, "share a mount", at) from error


def make_read_only(at: Path) -> None:
    """The mount, not what it shows."""
    try:
        _mount("none", at, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    except OSError as error:
        raise _explain(error, "make a mount read-only", at) from error


def unmount(at: Path) -> None:
    """Detach: gone from the tree at once, freed when its last user is."""
    if _libc.umount2(os.fsencode(at), _MNT_DETACH) != 0:
        raise _failure("unmount", at)


def _mount(source: str, at: Path, kind: str | None, flags: int, options: str = "") -> None:
    encoded = None if kind is None else kind.encode()
    if _libc.mount(source.encode(), os.fsencode(at), encoded, ctypes.c_ulong(flags), options.encode() or None) != 0:
        raise _last_error()


def _mount_overlay_by_parts(at: Path, lowers: Sequence[Path], data: Sequence[Path], upper: Path, work: Path) -> None:
    context = _syscall(_SYS_FSOPEN, b"overlay", _CLOEXEC)
    try:
        for lower in lowers:
            _configure(context, b"lowerdir+", os.fsencode(lower))
        for layer in data:
            _configure(context, b"datadir+", os.fsencode(layer))
        _configure(context, b"upperdir", os.fsencode(upper))
        _configure(context, b"workdir", os.fsencode(work))
        _configure(context, b"metacopy", b"on")
        _configure(context, b"redirect_dir", b"on")
        _syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = _syscall(_SYS_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        _syscall(_SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, os.fsencode(at), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(mounted)


def _mount_overlay_by_string(at: Path, lowers: Sequence[Path], data: Sequence[Path], upper: Path, work: Path) -> None:
    layers = ":".join(_escape(lower) for lower in lowers) + "".join(f"::{_escape(layer)}" for layer in data)
    options = f"lowerdir={layers},upperdir={_escape(upper)},workdir={_escape(work)},metacopy=on,redirect_dir=on"
    try:
        _mount("jiffy", at, "overlay", 0, options)
    except OSError as error:
        raise _explain(error, "mount an overlay", at, hint="`jiffy doctor` tells what the kernel lacks") from error


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _configure(context: int, key: bytes, value: bytes) -> None:
    _syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, key, value, 0)


def _mount_erofs_by_loop(image: Path, at: Path) -> None:
    with Path("/dev/loop-control").open("rb", buffering=0) as control:
        number = ioctl(control, _LOOP_CTL_GET_FREE)
    device = Path(f"/dev/loop{number}")
    try:
        with device.open("rb", buffering=0) as loop, image.open("rb") as file:
            ioctl(loop, _LOOP_CONFIGURE, _loop_configuration(file.fileno()))
            _mount(str(device), at, "erofs", _MS_RDONLY | _MS_NODEV)
    except OSError as error:
        raise _explain(error, f"mount {image} by {device}", at) from error


def _loop_configuration(descriptor: int) -> bytes:
    """struct loop_config: the file, a block size, and a loop_info64 whose flags are all that is set."""
    information = bytearray(232)
    struct.pack_into("<I", information, 52, _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR)
    return struct.pack("<II", descriptor, 0) + bytes(information) + bytes(64)


def _syscall(*arguments: int | bytes | None) -> int:
    result = int(_libc.syscall(*arguments))
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _failure(what: str, at: Path) -> JiffyError:
    return _explain(_last_error(), what, at)


def _explain(error: OSError, what: str, at: Path, hint: str = "") -> JiffyError:
    kind = UnsupportedError if error.errno in (errno.ENODEV, errno.ENOSYS, errno.EINVAL, errno.ENOTBLK) else JiffyError
    reasons = {errno.EPERM: "not permitted; a worker needs root"}
    return kind(f"cannot {what} at {at}", why=reasons.get(error.errno or 0, error.strerror or str(error)), hint=hint)
