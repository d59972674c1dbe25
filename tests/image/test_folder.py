"""A folder becomes entries that say nothing of when and where it was."""

from __future__ import annotations

import os
from pathlib import Path

from jiffy.image.folder import import_folder
from jiffy.image.index import Kind, encode_index
from jiffy.objects.local import LocalObjects
from tests.objects.conftest import make_objects


def make_folder(root: Path) -> Path:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "text").write_text("words")
    (root / "a" / "run").write_text("#!/bin/sh")
    (root / "a" / "run").chmod(0o700)
    (root / "empty").touch()
    (root / "link").symlink_to("a/text")
    return root


def read(folder: Path, objects: LocalObjects) -> bytes:
    with objects.batch() as batch:
        return encode_index(import_folder(folder, batch))


def test_files_links_and_folders_are_kept(tmp_path: Path) -> None:
    objects = make_objects(tmp_path / "store")
    with objects.batch() as batch:
        found = {entry.path: entry for entry in import_folder(make_folder(tmp_path / "tree"), batch)}
    assert set(found) == {b"/", b"/a", b"/a/b", b"/a/text", b"/a/run", b"/empty", b"/link"}
    assert objects.read(found[b"/a/text"].digest) == b"words"
    assert found[b"/a/run"].mode == 0o755
    assert found[b"/empty"].digest == ""
    assert (found[b"/link"].kind, found[b"/link"].target) == (Kind.SYMLINK, b"a/text")


def test_the_same_contents_give_the_same_index_whenever_and_wherever(tmp_path: Path) -> None:
    objects = make_objects(tmp_path / "store")
    first, second = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    os.utime(second / "empty", (1, 1))
    assert read(first, objects) == read(second, objects)


def test_a_links_target_is_kept_as_it_was_written(tmp_path: Path) -> None:
    objects = make_objects(tmp_path / "store")
    (tmp_path / "tree").mkdir()
    os.symlink(b"./a//b/../c/", os.fsencode(tmp_path / "tree" / "link"))  # noqa: PTH211
    with objects.batch() as batch:
        found = {entry.path: entry for entry in import_folder(tmp_path / "tree", batch)}
    assert found[b"/link"].target == b"./a//b/../c/"
