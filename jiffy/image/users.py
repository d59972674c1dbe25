"""Users of an image, as its own files know them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jiffy.errors import InvalidError


@dataclass(frozen=True, slots=True)
class ImageUser:
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def find_user(text: str, passwd: str, group: str) -> ImageUser:
    """From NAME, UID, NAME:GROUP and the like, and the contents of /etc/passwd and /etc/group; empty is root. InvalidError
    for a name that is not there."""
    name, _, group_name = (text or "0").partition(":")
    known = next((line for line in _lines(passwd, 7) if _is(name, line)), None)
    if known is None and not name.isdigit():
        raise InvalidError(f"the image has no user {name}", hint="create it first, or give its number")
    uid = int(known[2]) if known is not None else int(name)
    gid = int(known[3]) if known is not None else 0
    home = known[5] if known is not None else ("/root" if uid == 0 else "/")
    if group_name:
        return ImageUser(uid, find_group(group_name, group), (), home)
    login = known[0] if known is not None else ""
    groups = tuple(int(line[2]) for line in _lines(group, 4) if login and login in line[3].split(","))
    return ImageUser(uid, gid, groups, home)


def find_group(name: str, group: str) -> int:
    """The number of a group, by name or number. InvalidError for a name that is not there."""
    known = next((line for line in _lines(group, 4) if _is(name, line)), None)
    if known is not None:
        return int(known[2])
    if not name.isdigit():
        raise InvalidError(f"the image has no group {name}", hint="create it first, or give its number")
    return int(name)


def _is(name: str, line: list[str]) -> bool:
    return line[0] == name or (name.isdigit() and int(line[2]) == int(name))


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    """Those that are whole, and have numbers where they belong."""
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) == fields and parts[2].isdigit() and (fields < 7 or parts[3].isdigit()):
            yield parts
