"""The tree that is read from an image is the one that was written to it."""

from __future__ import annotations

import io
import os
from collections import Counter

import pytest
from hypothesis import given, settings

from jiffy.errors import CorruptError
from jiffy.image.erofs import FORMAT_BITS, write_erofs
from jiffy.image.erofs_tree import ErofsTree, Node
from jiffy.image.index import Entry, Index, Kind, encode_index
from tests.image.trees import trees


def read_back(tree: list[Entry]) -> ErofsTree:
    image = io.BytesIO()
    write_erofs(Index.load(encode_index(tree)), image)
    return ErofsTree(image.getvalue())


def find(image: ErofsTree, path: bytes) -> Node:
    node = image.node(image.root)
    for name in filter(None, path.split(b"/")):
        number = image.look_up(node, name)
        assert number is not None, path
        node = image.node(number)
    return node


@given(tree=trees())
@settings(max_examples=60, deadline=None)
def test_every_entry_is_found_by_its_path(tree: list[Entry]) -> None:
    image = read_back(tree)
    for entry in tree:
        node = find(image, entry.path)
        assert (node.uid, node.gid, node.mtime_ns) == (entry.uid, entry.gid, entry.mtime_ns)
        if entry.kind is Kind.CHARACTER and entry.device == 0:
            continue
        assert node.mode == FORMAT_BITS[entry.kind] | entry.mode
        attributes = {name: value for name, value in image.xattrs(node).items() if b".overlay." not in name}
        assert attributes == dict(entry.xattrs)
        if entry.kind is Kind.FILE:
            assert (node.size, image.digest(node)) == (entry.size, entry.digest)
        if entry.kind is Kind.SYMLINK:
            assert image.target(node) == entry.target


@given(tree=trees())
@settings(max_examples=40, deadline=None)
def test_names_of_one_file_lead_to_one_node(tree: list[Entry]) -> None:
    image = read_back(tree)
    counts = Counter(entry.link for entry in tree if entry.link)
    for entry in tree:
        if entry.link:
            first = next(other for other in tree if other.link == entry.link)
            assert find(image, entry.path) == find(image, first.path)
            assert find(image, entry.path).links == counts[entry.link]


def test_a_directory_of_many_names_is_searched_and_listed() -> None:
    names = sorted(b"name-%d" % number for number in range(10_000))
    tree = [Entry(b"/", Kind.DIRECTORY, 0o755), Entry(b"/many", Kind.DIRECTORY, 0o755)]
    image = read_back([*tree, *(Entry(b"/many/" + name, Kind.FILE, 0o644) for name in names)])
    many = find(image, b"/many")
    assert [name for name, _ in image.names(many)] == [b".", b"..", *names]
    assert [name for name, _ in image.names(many, 9_000)] == names[8_998:]
    assert all(image.look_up(many, name) is not None for name in names[::97])
    assert image.look_up(many, b"name-") is None
    assert image.look_up(many, b"") is None
    assert image.look_up(many, b"zzz") is None


def test_devices_are_as_the_kernel_writes_them() -> None:
    image = read_back(
        [Entry(b"/", Kind.DIRECTORY, 0o755), Entry(b"/null", Kind.CHARACTER, 0o666, device=os.makedev(1, 3))]
    )
    assert find(image, b"/null").device == 1 << 8 | 3


@pytest.mark.parametrize("data", [b"", bytes(5000)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not an EROFS image"):
        ErofsTree(data)


def test_a_node_beyond_the_end_is_refused() -> None:
    with pytest.raises(CorruptError, match="no node"):
        read_back([Entry(b"/", Kind.DIRECTORY, 0o755)]).node(10**6)
