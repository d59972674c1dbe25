"""What a container changed, told by the upper folder of its overlay. Each test compares with what the kernel shows."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

from jiffy.errors import CorruptError
from jiffy.fs.mount import mount_erofs, mount_overlay, unmount
from jiffy.image.change import Change, apply_change, capture_change, encode_change, flatten, read_change
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree
from jiffy.objects.local import LocalObjects
from tests.image.trees import trees
from tests.objects.conftest import make_objects


def base(objects: LocalObjects) -> list[Entry]:
    """A small root: folders in folders, files, a link, and one file with two names."""
    entries = [Entry(b"/", Kind.DIRECTORY, 0o755)]
    entries += [Entry(path, Kind.DIRECTORY, 0o755) for path in (b"/a", b"/a/deep", b"/a/deep/er", b"/b", b"/empty")]
    for path in (b"/file", b"/a/one", b"/a/deep/two", b"/a/deep/er/three"):
        data = b"content of " + path
        entries.append(Entry(path, Kind.FILE, 0o644, size=len(data), digest=objects.put(data)))
    shared = objects.put(b"shared")
    entries += [Entry(path, Kind.FILE, 0o600, size=6, digest=shared, link=1) for path in (b"/b/x", b"/b/y")]
    return [*entries, Entry(b"/link", Kind.SYMLINK, 0o777, target=b"a/one")]


class Container:
    """A root as a container has it, mounted."""

    def __init__(self, folder: Path) -> None:
        self.objects = make_objects(folder / "store")
        index = Index.load(encode_index(base(self.objects)))
        self.lower = Tree([index])
        self.root, self.upper = folder / "root", folder / "upper"
        at, work, image = folder / "lower", folder / "work", folder / "image"
        for path in (self.root, self.upper, at, work):
            path.mkdir()
        self.upper.chmod(0o755)
        with image.open("wb") as file:
            write_erofs(index, file)
        mount_erofs(image, at)
        mount_overlay(self.root, [at], [self.objects.root], self.upper, work)
        unmount(at)

    def capture(self) -> Tree:
        """What the root is after the change."""
        unmount(self.root)
        with self.objects.batch() as batch:
            change = read_change(encode_change(capture_change(self.upper, batch.adopt)))
        return Tree([Index.load(encode_index(flatten(self.lower, apply_change(self.lower, change))))])


@pytest.fixture
def container(disk_folder: Path) -> Iterator[Container]:
    folder = disk_folder / "change"
    folder.mkdir()
    made = Container(folder)
    yield made
    if made.root.is_mount():
        unmount(made.root)
    shutil.rmtree(folder)


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """Path -> kind, mode, owner, content, and which other names it has, as the kernel shows them."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        elif stat.S_ISCHR(status.st_mode):
            content = status.st_rdev
        name = "/" + str(path.relative_to(root)) if path != root else "/"
        found[name] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, content)
    return found


def described(tree: Tree, objects: LocalObjects) -> dict[str, tuple[object, ...]]:
    formats = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}
    formats |= {Kind.CHARACTER: stat.S_IFCHR, Kind.FIFO: stat.S_IFIFO}
    found: dict[str, tuple[object, ...]] = {}
    for entry in tree:
        content: object = None
        if entry.kind is Kind.FILE:
            content = objects.read(entry.digest) if entry.digest else b""
        elif entry.kind is Kind.SYMLINK:
            content = entry.target.decode()
        elif entry.kind is Kind.CHARACTER:
            content = entry.device
        found[os.fsdecode(entry.path)] = (formats[entry.kind], entry.mode, entry.uid, content)
    return found


CHANGES = {
    "nothing": "true",
    "a new file": "echo new > new",
    "a new tree": "mkdir -p n/m; echo o > n/m/o",
    "an empty file": "touch none",
    "a file written over": "echo other > file",
    "a file appended to": "echo more >> a/one",
    "a file removed": "rm a/one",
    "a folder removed": "rm -r a",
    "a folder replaced by a folder": "rm -r a; mkdir a; touch a/new",
    "a folder replaced by a file": "rm -r a; echo file > a",
    "a folder replaced by a link": "rm -r a; ln -s b a",
    "a file replaced by a folder": "rm file; mkdir -p file/in",
    "a mode": "chmod 4711 file",
    "an owner": "chown 7:8 a/deep",
    "an owner of all": "chown -R 7 a",
    "a file moved": "mv a/one b/one",
    "a file moved and its mode": "chmod 600 a/one; mv a/one uno",
    "a file renamed in its folder": "chmod 600 a/one; mv a/one a/1",
    "a folder moved": "mv a c",
    "a folder moved into another": "mv a/deep b/deep",
    "a folder moved and changed": "mv a c; rm c/one; echo changed > c/deep/two; chmod 640 c/deep/er/three; touch c/new",
    "folders moved within moved ones": "mv a c; mv c/deep c/shallow; mv c/shallow/er er",
    "folders that changed places": "mv a t; mv b a; mv t b",
    "a folder moved over an empty one": "mv -T a empty",
    "one of two names written": "echo only x > b/x",
    "one of two names removed": "rm b/x",
    "new names of one file": "echo n > n; ln n b/n",
    "a name of a file below": "ln file again",
    "a link": "ln -s /somewhere/else l",
    "a pipe": "mkfifo -m 600 pipe",
    "a device": "mknod -m 600 device c 1 3",
    "a name that is no text": "echo odd > $(printf '\\377\\376')",
}


@pytest.mark.root
@pytest.mark.parametrize("change", CHANGES, ids=lambda name: name.replace(" ", "-"))
def test_after_a_change_the_tree_is_as_the_kernel_shows_it(container: Container, change: str) -> None:
    subprocess.run(["sh", "-ec", CHANGES[change]], cwd=container.root, check=True)
    expected = seen(container.root)
    assert described(container.capture(), container.objects) == expected


@pytest.mark.root
def test_attributes_are_kept_and_those_of_the_overlay_left_out(container: Container) -> None:
    os.setxattr(container.root / "file", "user.note", b"hello")
    (container.root / "a").rename(container.root / "c")
    tree = container.capture()
    assert {entry.path: entry.xattrs for entry in tree if entry.xattrs} == {b"/file": ((b"user.note", b"hello"),)}


@pytest.mark.root
def test_names_of_one_file_stay_names_of_one_file(container: Container) -> None:
    (container.root / "n").write_text("n")
    os.link(container.root / "n", container.root / "m")
    tree = container.capture()
    assert (first := tree.lookup(b"/n")) and (second := tree.lookup(b"/m"))
    assert first.link == second.link != 0
    assert (third := tree.lookup(b"/b/x")) and third.link not in (0, first.link)


@pytest.mark.root
def test_only_what_was_written_is_stored(container: Container) -> None:
    before = set(container.objects)
    (container.root / "file").chmod(0o600)
    (container.root / "a").rename(container.root / "c")
    (container.root / "copy").write_bytes((container.root / "file").read_bytes())
    container.capture()
    assert set(container.objects) == before


def test_a_mount_point_that_was_made_for_a_mount_is_no_change() -> None:
    lower = Tree(
        [Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), Entry(b"/etc", Kind.DIRECTORY, 0o755)]))]
    )
    made = [Entry(path, Kind.DIRECTORY, 0o755) for path in (b"/", b"/etc", b"/run", b"/run/jiffy")]
    made += [Entry(path, Kind.FILE, 0o644) for path in (b"/etc/hosts", b"/run/jiffy/x", b"/etc/kept")]
    applied = apply_change(lower, Change(entries=made), (b"/etc/hosts", b"/run/jiffy/x", b"/dev"))
    assert {entry.path for entry in applied.entries} == {b"/", b"/etc", b"/etc/kept"}


@given(trees())
def test_a_change_is_read_as_it_was_written(entries: list[Entry]) -> None:
    paths = {entry.path for entry in entries}
    change = Change(entries, removed=paths, opaque=paths, moved=dict.fromkeys(paths, b"x"), untouched={})
    read = read_change(encode_change(change))
    assert {entry.path for entry in read.entries} == paths
    assert (read.removed, read.opaque, read.moved) == (change.removed, change.opaque, change.moved)


@pytest.mark.parametrize(
    "data", [b"", b"jiffychg", b"jiffychg" + bytes(8), b"jiffychg" + bytes(7) + b"\xff", b"x" * 99]
)
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read_change(data)
