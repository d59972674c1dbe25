"""An EROFS image shows the tree of its index, to the kernel and to the tools of erofs-utils."""

from __future__ import annotations

import os
import stat
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from jiffy.image.index import Entry, Kind
from tests.image.trees import trees
from tests.mounts import mounted_image, mounted_root, write_image
from tests.objects.conftest import make_objects

TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}


@given(tree=trees())
@settings(max_examples=30, deadline=None)
def test_the_tools_of_the_format_find_no_fault(tree: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> None:
    image = write_image(tree, tmp_path_factory.mktemp("erofs") / "image")
    done = subprocess.run(["fsck.erofs", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
@given(tree=trees())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_kernel_shows_every_entry_with_its_stat(
    tree: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with mounted_image(tree, tmp_path_factory.mktemp("erofs")) as at:
        seen = {b"/"} | {
            (folder + b"/" + name).removeprefix(os.fsencode(at))
            for folder, folders, files in os.walk(os.fsencode(at))
            for name in folders + files
        }
        assert seen == {entry.path for entry in tree}
        for entry in tree:
            check_entry(os.fsencode(at) + entry.path, entry)
        check_links(at, tree)


def check_entry(path: bytes, entry: Entry) -> None:
    found = os.lstat(path)
    whiteout = entry.kind is Kind.CHARACTER and entry.device == 0
    assert whiteout or found.st_mode == TYPES[entry.kind] | entry.mode, path
    assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (entry.uid, entry.gid, entry.mtime_ns), path
    if entry.kind is Kind.FILE:
        assert found.st_size == entry.size
    if entry.kind is Kind.SYMLINK:
        assert os.readlink(path) == entry.target  # noqa: PTH115, a Path would drop a slash at the end
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        assert found.st_rdev == entry.device
    attributes = dict(entry.xattrs)
    shown = {os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)}
    assert {name for name in shown if not name.startswith(b"trusted.overlay.")} == set(attributes)
    for name, value in attributes.items():
        assert os.getxattr(path, name, follow_symlinks=False) == value


def check_links(at: Path, tree: list[Entry]) -> None:
    groups = defaultdict(list)
    for entry in tree:
        groups[entry.link or entry.path].append(entry)
    for group in groups.values():
        numbers = {os.lstat(os.fsencode(at) + entry.path).st_ino for entry in group}
        assert len(numbers) == 1
        if group[0].kind is Kind.FILE:
            assert os.lstat(os.fsencode(at) + group[0].path).st_nlink == len(group)


@pytest.mark.root
def test_a_folder_of_ten_thousand_entries_is_listed_whole(tmp_path: Path) -> None:
    names = {f"file-{number:05}" for number in range(10_000)}
    tree = [Entry(b"/", Kind.DIRECTORY, 0o755)] + [Entry(f"/{name}".encode(), Kind.FILE, 0o644) for name in names]
    with mounted_image(tree, tmp_path) as at:
        assert {path.name for path in at.iterdir()} == names
        assert (at / "file-07777").exists()
        assert not (at / "file-10000").exists()


@pytest.mark.root
def test_contents_come_from_the_objects_beside_it(tmp_path: Path) -> None:
    objects = make_objects(tmp_path / "store")
    contents = {f"/{number}": os.urandom(number * 1000 + 1) for number in range(20)}
    tree = [Entry(b"/", Kind.DIRECTORY, 0o755)] + [
        Entry(path.encode(), Kind.FILE, 0o644, size=len(data), digest=objects.put(data))
        for path, data in contents.items()
    ]
    with mounted_root(tree, [objects.root], tmp_path) as root:
        for path, data in contents.items():
            assert (root / path.lstrip("/")).read_bytes() == data
