"""Layers that can be read in parts: what is written is read, by any tool and piece by piece."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jiffy.errors import CorruptError, InvalidError, UnsupportedError
from jiffy.image.assembly import Assembly
from jiffy.image.estargz import (
    FOOTER_BYTES,
    TOC_DIGEST,
    find_table,
    read_contents,
    read_gzip_table,
    read_zstd_table,
    table_digest,
)
from jiffy.image.estargz_writer import CHUNK_BYTES, write_estargz
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.pieces import Contents, Piece, unpack
from jiffy.objects.chunks import read_chunk_list
from jiffy.objects.local import LocalObjects
from tests.objects.conftest import make_objects


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return make_objects(tmp_path / "store")


def file(objects: LocalObjects, path: str, data: bytes, **fields: Any) -> Entry:
    return Entry(path.encode(), Kind.FILE, 0o644, size=len(data), digest=objects.put(data), **fields)


LARGE = bytes(range(256)) * (CHUNK_BYTES // 128) + b"the rest"


@pytest.fixture
def index(objects: LocalObjects) -> Index:
    entries = [
        Entry(b"/", Kind.DIRECTORY, 0o755),
        Entry(b"/a", Kind.DIRECTORY, 0o1777, uid=3, gid=4, mtime_ns=1234567890123456789),
        file(objects, "/a/x", b"hello", xattrs=((b"user.a", b"\xff\0"),), mtime_ns=1_000_000_001),
        file(objects, "/large", LARGE),
        file(objects, "/one", b"two names", link=1),
        file(objects, "/two", b"two names", link=1),
        Entry(b"/link", Kind.SYMLINK, 0o777, target=b"a/x"),
        Entry(b"/null", Kind.CHARACTER, 0o600, device=os.makedev(1, 3)),
        Entry(b"/pipe", Kind.FIFO, 0o600),
        Entry(b"/empty", Kind.FILE, 0o600),
    ]
    return Index.load(encode_index(entries))


class Written:
    """A layer that was written, and what its table says."""

    def __init__(self, index: Index, objects: LocalObjects, path: Path, first: list[str]) -> None:
        self.layer = write_estargz(index, objects.path, path, first)
        self.blob = path.read_bytes()
        self.start = find_table(self.blob[-FOOTER_BYTES:])
        self.text = read_gzip_table(self.blob[self.start :])

    @property
    def contents(self) -> Contents:
        return read_contents(self.text, self.start, "gzip")


def test_it_is_an_ordinary_compressed_archive(index: Index, objects: LocalObjects, tmp_path: Path) -> None:
    written = Written(index, objects, tmp_path / "layer", [])
    plain = gzip.decompress(written.blob)
    assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == written.layer.diff_id
    assert f"sha256:{hashlib.sha256(written.blob).hexdigest()}" == written.layer.digest
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        large = archive.extractfile("large")
        assert large is not None and large.read() == LARGE
        assert archive.getmember("two").linkname == "one"


def test_the_table_tells_the_whole_tree(index: Index, objects: LocalObjects, tmp_path: Path) -> None:
    written = Written(index, objects, tmp_path / "layer", [])
    assert table_digest(written.text) == written.layer.annotations[TOC_DIGEST]
    assembly = Assembly()
    assembly.add(written.contents.change)
    assert encode_index(list(assembly.entries())) == encode_index(list(index))


def test_each_file_is_had_by_its_own_bytes(index: Index, objects: LocalObjects, tmp_path: Path) -> None:
    written = Written(index, objects, tmp_path / "layer", [])
    places = written.contents.places
    assert {digest for digest, _ in index.digests()} <= set(places)
    for digest, place in places.items():
        parts = [unpack(written.blob[piece.start : piece.end], piece.size, "gzip") for piece in place]
        assert hashlib.sha256(b"".join(parts)).hexdigest() == digest
    large = places[hashlib.sha256(LARGE).hexdigest()]
    assert [piece.size for piece in large] == [CHUNK_BYTES, CHUNK_BYTES, 8]


def test_the_chunks_of_large_files_are_told(objects: LocalObjects, tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES * 5 + 3)
    small = file(objects, "/small", data[: CHUNK_BYTES * 3])
    index = Index.load(encode_index([Entry(b"/", Kind.DIRECTORY, 0o755), file(objects, "/a", data), small]))
    contents = Written(index, objects, tmp_path / "layer", []).contents
    (chunks,) = contents.chunks.values()
    assert list(contents.chunks) == [hashlib.sha256(data).hexdigest()]
    assert len(chunks) == 6 and read_chunk_list(chunks.encode()) == chunks
    chunks.verify(5, data[CHUNK_BYTES * 5 :])
    with pytest.raises(CorruptError):
        chunks.verify(0, data[1 : CHUNK_BYTES + 1])


def test_chunks_of_different_sizes_are_no_list() -> None:
    first, second, third = 2 * 2**20, 2**20, 2 * 2**20
    chunk = {"name": "a", "type": "chunk", "chunkDigest": DIGEST}
    text = table(
        {**chunk, "type": "reg", "size": first + second + third, "digest": DIGEST, "offset": 1, "chunkSize": first},
        {**chunk, "offset": 10, "chunkSize": second},
        {**chunk, "offset": 20, "chunkSize": third},
    )
    contents = read_contents(text, 50, "gzip")
    assert contents.places and not contents.chunks


def test_what_starts_read_comes_before_the_landmark(index: Index, objects: LocalObjects, tmp_path: Path) -> None:
    first = [hashlib.sha256(data).hexdigest() for data in (LARGE, b"hello")]
    written = Written(index, objects, tmp_path / "layer", first)
    assert list(written.contents.first) == first
    assert written.contents.places[first[0]][0].start < written.contents.places[first[1]][0].start


def test_the_same_index_gives_the_same_bytes(index: Index, objects: LocalObjects, tmp_path: Path) -> None:
    assert Written(index, objects, tmp_path / "a", []).blob == Written(index, objects, tmp_path / "b", []).blob


def table(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"version": 1, "entries": list(entries)}).encode()


DIGEST = "sha256:" + "a" * 64


def test_whiteouts_take_away() -> None:
    text = table({"name": "etc/", "type": "dir", "mode": 0o755}, {"name": "etc/.wh.passwd", "type": "reg"})
    assert read_contents(text, 10, "gzip").change.removed == {b"/etc/passwd"}


def test_files_may_share_a_member() -> None:
    both = {"type": "reg", "digest": DIGEST, "offset": 5}
    text = table(
        {**both, "name": "a", "size": 3},
        {**both, "name": "b", "size": 2, "innerOffset": 3, "digest": DIGEST[:-1] + "b"},
    )
    places = read_contents(text, 50, "gzip").places
    assert places["a" * 63 + "b"] == (Piece(5, 50, 2, 3),)


def test_frames_of_zstd_are_read() -> None:
    text = table({"name": "a", "type": "reg", "size": 3, "digest": DIGEST, "offset": 1, "endOffset": 9})
    assert read_zstd_table(zstandard.compress(text)) == text
    (piece,) = read_contents(text, 50, "zstd").places["a" * 64]
    assert (piece.start, piece.end) == (1, 9)
    assert unpack(zstandard.compress(b"abc"), piece.size, "zstd") == b"abc"


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../x", "type": "dir"},
        {"name": "a", "type": "strange"},
        {"name": "a", "type": "reg", "size": 3, "offset": 1},
        {"name": "a", "type": "reg", "size": 3, "digest": DIGEST},
        {"name": "a", "type": "reg", "size": 3, "digest": DIGEST, "offset": 99},
        {"name": "a", "type": "reg", "size": 3, "digest": "md5:a", "offset": 1},
        {"name": "a", "type": "reg", "size": -3, "digest": DIGEST, "offset": 1},
        {"name": "a", "type": "reg", "size": 2**70, "digest": DIGEST, "offset": 1},
        {"name": "a", "type": "dir", "xattrs": {"user.a": "!"}},
        {"name": "a", "type": "char", "devMajor": 2**40},
    ],
)
def test_a_table_that_makes_no_sense_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        read_contents(table(entry), 50, "gzip")


def test_a_file_in_one_huge_piece_cannot_be_read_in_parts() -> None:
    entry = {"name": "a", "type": "reg", "size": 2**30, "digest": DIGEST, "offset": 1}
    for end in (50, 2**31):
        with pytest.raises(UnsupportedError, match="cannot be read in parts"):
            read_contents(table(entry), end, "gzip")


@pytest.mark.parametrize(
    "data", [b"", b"x" * 99, gzip.compress(b"no tar", mtime=0), gzip.compress(b"\0" * 10240, mtime=0)]
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    assert find_table(data) == 0
    with pytest.raises(CorruptError):
        read_contents(read_gzip_table(data), 50, "gzip")


@pytest.mark.parametrize("data", [b"", b"x" * 20, gzip.compress(b"ab", mtime=0)])
def test_a_piece_that_is_not_what_the_table_says_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack(data, 3, "gzip")
