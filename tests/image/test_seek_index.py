"""Ordinary layers are read in parts, by what one pass over them found."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jiffy.errors import CorruptError, InvalidError, JiffyError, UnsupportedError
from jiffy.image.change import encode_change
from jiffy.image.pieces import Contents, unpack, unpack_from
from jiffy.image.seek_index import SeekIndex, make_seek_index, read_seek_index, unpack_window
from jiffy.objects.base import Digest
from jiffy.objects.chunks import LARGE
from tests.oci import Member, digest_of, folder, hard_link, link, make_layer

_random = random.Random(4)
WORDS = [_random.randbytes(_random.randint(2, 9)) for _ in range(500)]


def prose(size: int) -> bytes:
    """Bytes that compress as programs do: into blocks of their own codes, which begin within bytes."""
    return b"".join(_random.choices(WORDS, k=size // 5))[:size]


FILES = {f"f/{number}": prose(_random.randint(1, 60_000)) for number in range(40)} | {"f/large": prose(LARGE + 12_345)}
LAYER = make_layer(
    folder("f"),
    *(Member(name, data, mtime=5) for name, data in FILES.items()),
    link("to", "f/1"),
    hard_link("same", "f/2"),
    Member("f/.wh.gone"),
    Member("twice", b"first"),
    Member("twice", b"second"),
)
FORMS = {
    "gzip": gzip.compress(LAYER, mtime=0),
    "fast gzip": gzip.compress(LAYER, 1, mtime=0),
    "stored gzip": gzip.compress(LAYER, 0, mtime=0),
    "members": b"".join(gzip.compress(LAYER[start : start + 700_001]) for start in range(0, len(LAYER), 700_001)),
    "plain": LAYER,
}


def make(blob: bytes, tmp_path: Path, layer: bytes = LAYER, spacing: int = 2**17) -> SeekIndex:
    (tmp_path / "blob").write_bytes(blob)
    return make_seek_index(tmp_path / "blob", digest_of(blob), digest_of(layer), spacing=spacing)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> SeekIndex:
    return make(FORMS["gzip"], tmp_path_factory.mktemp("layer"))


def content(blob: bytes, contents: Contents, digest: Digest) -> bytes:
    """As a server has it: each span by its own bytes."""
    parts = []
    for piece in contents.places[digest]:
        data = blob[piece.start : piece.end]
        checkpoint = contents.checkpoints.get(piece.start)
        if checkpoint is None:
            plain = unpack(data, len(data), contents.compression)
        else:
            window = contents.windows[checkpoint.window_start :][: checkpoint.window_size]
            plain = unpack_from(data, checkpoint, unpack_window(window))
        parts.append(plain[piece.inner : piece.inner + piece.size])
    return b"".join(parts)


@pytest.mark.parametrize("form", FORMS)
def test_each_file_is_had_from_the_middle_of_the_layer(form: str, tmp_path: Path) -> None:
    blob = FORMS[form]
    index = read_seek_index(make(blob, tmp_path).encode())
    contents = index.contents()
    for data in FILES.values():
        assert content(blob, contents, hashlib.sha256(data).hexdigest()) == data
    assert len(index.points) > 10
    assert any(point.bits for point in index.points) == (form in ("gzip", "fast gzip", "members"))


def test_the_tree_is_what_the_layer_does(index: SeekIndex) -> None:
    change = read_seek_index(index.encode()).change
    paths = {entry.path: entry for entry in change.entries}
    assert change.removed == {b"/f/gone"}
    assert paths[b"/twice"].digest == hashlib.sha256(b"second").hexdigest()
    assert paths[b"/same"].link == paths[b"/f/2"].link != 0
    assert hashlib.sha256(b"first").hexdigest() not in index.offsets


def test_large_files_have_their_chunks(index: SeekIndex) -> None:
    ((digest, chunks),) = read_seek_index(index.encode()).chunks.items()
    data = FILES["f/large"]
    assert digest == hashlib.sha256(data).hexdigest()
    for number in range(len(chunks)):
        start, size = chunks.span(number)
        chunks.verify(number, data[start : start + size])


def test_what_a_start_wants_is_told_as_far_as_the_layer_has_it(tmp_path: Path) -> None:
    wanted = [hashlib.sha256(FILES[name]).hexdigest() for name in ("f/7", "f/3")]
    (tmp_path / "blob").write_bytes(FORMS["gzip"])
    first = [wanted[0], "0" * 64, wanted[1]]
    made = make_seek_index(tmp_path / "blob", digest_of(FORMS["gzip"]), digest_of(LAYER), first=first)
    assert list(read_seek_index(made.encode()).contents().first) == wanted


def test_a_layer_without_files_has_an_index(tmp_path: Path) -> None:
    empty = make_layer()
    for blob in (gzip.compress(empty), empty):
        assert read_seek_index(make(blob, tmp_path, empty).encode()).contents().places == {}


def test_another_layer_than_was_announced_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(FORMS["gzip"])
    with pytest.raises(CorruptError, match="wrong bytes"):
        make_seek_index(tmp_path / "blob", digest_of(b"other"), digest_of(LAYER))
    with pytest.raises(CorruptError, match="its content has the digest"):
        make_seek_index(tmp_path / "blob", digest_of(FORMS["gzip"]), digest_of(b"other"))


def test_a_layer_that_is_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JiffyError):
        make(FORMS["gzip"][:-2000], tmp_path)


def test_a_layer_of_zstd_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--estargz"):
        make(zstandard.compress(LAYER), tmp_path)


def test_sparse_files_cannot_be_read_in_parts(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "600"}
    data = b"1\n512\n88\n".ljust(512, b"\0") + b"x" * 88
    sparse.size = len(data)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse, io.BytesIO(data))
    with pytest.raises(UnsupportedError, match="sparse"):
        make(gzip.compress(stream.getvalue()), tmp_path, stream.getvalue())


def spoil(index: SeekIndex, **fields: Any) -> bytes:
    return replace(index, **fields).encode()


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda index: {"points": []},
        lambda index: {"points": index.points[::-1]},
        lambda index: {"points": index.points[1:]},
        lambda index: {"layer_size": 100},
        lambda index: {"content_size": 2**40},
        lambda index: {"content_size": 1000},
        lambda index: {"compression": "none of them"},
        lambda index: {"offsets": {}},
        lambda index: {"offsets": dict.fromkeys(index.offsets, 2**50)},
        lambda index: {"offsets": {**index.offsets, "0" * 64: 0}},
        lambda index: {"windows": index.windows[:-1]},
        lambda index: {"points": [replace(index.points[0], bits=9), *index.points[1:]]},
        lambda index: {"points": [replace(index.points[0], start=0, bits=3), *index.points[1:]]},
    ],
)
def test_an_index_that_does_not_fit_is_refused(spoilt: Any, index: SeekIndex) -> None:
    with pytest.raises(InvalidError, match="does not fit"):
        read_seek_index(spoil(index, **spoilt(index)))


def packed(header: Any, rest: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return zstandard.compress(b"jiffysek" + struct.pack("<Q", len(text)) + text + rest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        zstandard.compress(b""),
        zstandard.compress(b"jiffysek"),
        packed({}),
        packed([]),
        packed({"change_size": "x"}),
    ],
)
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not a seek index"):
        read_seek_index(data)


def test_chunks_of_what_is_not_in_the_layer_are_refused(index: SeekIndex) -> None:
    plain = zstandard.decompress(index.encode())
    (length,) = struct.unpack_from("<Q", plain, 8)
    header = json.loads(plain[16 : 16 + length])
    header["chunks"] = {"0" * 64: ""}
    with pytest.raises(CorruptError):
        read_seek_index(packed(header, encode_change(index.change) + index.windows))
