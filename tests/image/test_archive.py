"""A tar becomes entries in one pass; a hostile one is refused with a reason."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from jiffy.errors import InvalidError
from jiffy.image.archive import import_archive, normal_path
from jiffy.image.index import Entry, Kind, encode_index
from jiffy.objects.local import LocalObjects
from tests.objects.conftest import make_objects


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return make_objects(tmp_path / "store")


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive(*members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for item in members:
            info, data = item if isinstance(item, tuple) else (item, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def read(objects: LocalObjects, data: bytes) -> dict[str, Entry]:
    with objects.batch() as batch:
        entries = import_archive(io.BytesIO(data), batch)
    encode_index(entries)
    return {os.fsdecode(entry.path): entry for entry in entries}


def test_contents_become_objects(objects: LocalObjects) -> None:
    found = read(objects, archive((member("./a/b", mode=0o750, uid=7, mtime=5), b"data")))
    entry = found["/a/b"]
    assert objects.read(entry.digest) == b"data"
    assert (entry.size, entry.mode, entry.uid, entry.mtime_ns) == (4, 0o750, 7, 5 * 10**9)
    assert found["/a"].kind is Kind.DIRECTORY


def test_every_kind_of_entry_is_kept(objects: LocalObjects) -> None:
    found = read(
        objects,
        archive(
            member("d", tarfile.DIRTYPE, mode=0o1777),
            member("l", tarfile.SYMTYPE, linkname="../else\udcffwhere"),
            member("c", tarfile.CHRTYPE, devmajor=1, devminor=3),
            member("b", tarfile.BLKTYPE, devmajor=8, devminor=1),
            member("p", tarfile.FIFOTYPE),
            member("empty"),
        ),
    )
    assert found["/d"].mode == 0o1777
    assert found["/l"].target == b"../else\xffwhere"
    assert found["/c"].device == os.makedev(1, 3)
    assert found["/b"].kind is Kind.BLOCK
    assert found["/p"].kind is Kind.FIFO
    assert found["/empty"].digest == ""


def test_hard_links_are_one_inode(objects: LocalObjects) -> None:
    found = read(objects, archive((member("a"), b"x"), member("b", tarfile.LNKTYPE, linkname="a")))
    assert found["/a"].link == found["/b"].link != 0
    assert found["/a"].digest == found["/b"].digest


def test_extended_attributes_are_kept(objects: LocalObjects) -> None:
    info = member("a", pax_headers={"SCHILY.xattr.user.note": "hello"})
    assert read(objects, archive((info, b"x")))["/a"].xattrs == ((b"user.note", b"hello"),)


def test_the_last_of_two_members_with_one_name_counts(objects: LocalObjects) -> None:
    found = read(objects, archive((member("a"), b"first"), (member("a"), b"second")))
    assert objects.read(found["/a"].digest) == b"second"


def test_an_absolute_name_is_inside_the_root() -> None:
    assert normal_path(b"/etc//./passwd") == b"/etc/passwd"
    assert normal_path(b"./") == b"/"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "x" * 256, "/".join(["y" * 200] * 30)])
def test_names_that_lead_outside_or_are_too_long_are_refused(objects: LocalObjects, name: str) -> None:
    with pytest.raises(InvalidError):
        read(objects, archive(member(name)))
    assert list(objects) == []


@pytest.mark.parametrize("target", ["absent", "../outside", "folder"])
def test_a_hard_link_to_what_is_no_file_of_the_archive_is_refused(objects: LocalObjects, target: str) -> None:
    with pytest.raises(InvalidError):
        read(objects, archive(member("folder", tarfile.DIRTYPE), member("l", tarfile.LNKTYPE, linkname=target)))


def test_a_file_that_is_a_folder_too_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(InvalidError, match="both"):
        read(objects, archive((member("a"), b"x"), (member("a/b"), b"y")))


def test_a_member_of_unknown_kind_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(InvalidError, match="not known"):
        read(objects, archive(member("odd", b"Z")))


@pytest.mark.parametrize("cut", [100, 512, 700, 3000])
def test_an_archive_that_ends_early_is_refused_and_leaves_nothing(objects: LocalObjects, cut: int) -> None:
    with pytest.raises(InvalidError):
        read(objects, archive((member("a"), b"x" * 5000))[:cut])
    assert list(objects) == []
    assert list(objects.incoming.iterdir()) == []


def test_what_is_no_archive_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(InvalidError, match="cannot read the archive"):
        read(objects, b"no tar at all" * 1000)
