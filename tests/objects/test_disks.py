"""Objects are spread over disks, found by everyone, and fetched anew when a disk is given up."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from jiffy.errors import InvalidError
from jiffy.objects.local import LocalObjects

DATA = [b"object %d" % number for number in range(400)]


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in ("one", "two", "three")]


def open_store(home: Path) -> LocalObjects:
    for name in ("objects", "incoming"):
        (home / name).mkdir(parents=True, exist_ok=True)
    return LocalObjects(home / "objects", home / "incoming", durable=False)


@pytest.fixture
def store(tmp_path: Path, roots: list[Path]) -> LocalObjects:
    opened = open_store(tmp_path / "home")
    opened.disks.spread(roots)
    return opened


def count(root: Path) -> int:
    return sum(path.is_file() for path in (root / "objects").rglob("*"))


def test_each_disk_gets_its_share(store: LocalObjects, roots: list[Path]) -> None:
    digests = [store.put(data) for data in DATA]
    assert [store.read(digest) for digest in digests] == DATA
    assert sorted(store) == sorted(digests)
    assert all(len(DATA) / 5 < count(root) < len(DATA) / 2 for root in roots)


def test_another_process_finds_them(store: LocalObjects, roots: list[Path]) -> None:
    digest = store.put(DATA[0])
    other = LocalObjects(store.root, store.incoming)
    assert other.disks.roots == tuple(roots)
    assert other.read(digest) == DATA[0]


def test_a_disk_that_is_given_up_takes_its_share_only(store: LocalObjects, roots: list[Path]) -> None:
    digests = [store.put(data) for data in DATA]
    lost = {digest for digest in digests if store.disks.of(digest) == roots[1]}
    assert store.disks.give_up(roots[1])
    assert {digest for digest in digests if not store.has(digest)} >= lost
    again = LocalObjects(store.root, store.incoming, durable=False)
    assert [again.put(data) for data in DATA] == digests
    assert all(again.disks.of(digest) in (roots[0], roots[2]) for digest in digests)


def test_the_last_disk_is_not_given_up(store: LocalObjects, roots: list[Path]) -> None:
    assert [store.disks.give_up(root) for root in roots] == [True, True, False]
    assert store.disks.roots == (roots[2],)


def test_a_disk_is_given_up_only_when_it_fails_itself(store: LocalObjects, roots: list[Path]) -> None:
    digest = store.put(DATA[0])
    disk = store.disks.of(digest)
    assert disk is not None
    assert not store.disks.blame(digest, OSError(errno.EIO, "a broken sector"))
    assert not store.disks.blame(digest, OSError(errno.EACCES, "not a disk's fault"))
    shutil.rmtree(disk)
    assert not store.disks.blame(digest, OSError(errno.EACCES, "not a disk's fault"))
    assert store.disks.blame(digest, OSError(errno.EIO, "gone"))
    assert disk not in store.disks.roots


def test_without_disks_all_is_at_home_again(store: LocalObjects) -> None:
    store.put(DATA[0])
    store.disks.spread([])
    digest = store.put(DATA[0])
    assert store.disks.of(digest) is None
    assert not store.path(digest).parent.is_symlink()


def test_a_cache_that_was_at_home_moves_out(tmp_path: Path, roots: list[Path]) -> None:
    store = open_store(tmp_path / "home")
    digest = store.put(DATA[0])
    store.disks.spread(roots)
    assert not store.has(digest)
    assert store.put(DATA[0]) == digest
    assert store.disks.of(digest) in roots


def test_a_place_that_cannot_be_is_refused(store: LocalObjects, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InvalidError, match="cannot keep objects at"):
        store.disks.spread([tmp_path / "file"])


def test_what_dead_processes_left_is_swept_from_every_disk(store: LocalObjects, roots: list[Path]) -> None:
    left = [root / "incoming" / "999999999-1" for root in roots]
    for path in left:
        path.write_bytes(b"half of an object")
    store.sweep()
    assert not any(path.exists() for path in left)


def test_digests_are_of_the_bytes(store: LocalObjects) -> None:
    assert store.put(DATA[5]) == hashlib.sha256(DATA[5]).hexdigest()
