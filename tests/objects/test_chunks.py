"""Lists of chunks: every byte of a large object can be verified by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.errors import CorruptError
from jiffy.objects.chunks import encode_chunk_map, list_chunks, read_chunk_list, read_chunk_map

DATA = bytes(range(256)) * 40
A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_a_list_survives_being_written(file: Path) -> None:
    chunks = list_chunks(file, 1000)
    assert read_chunk_list(chunks.encode()) == chunks
    assert (chunks.size, len(chunks)) == (len(DATA), 11)


def test_chunks_cover_the_object_without_gaps(file: Path) -> None:
    chunks = list_chunks(file, 1000)
    spans = [chunks.span(number) for number in range(len(chunks))]
    assert b"".join(DATA[start : start + size] for start, size in spans) == DATA
    assert spans[-1] == (10_000, 240)


def test_each_chunk_is_verified_by_itself(file: Path) -> None:
    chunks = list_chunks(file, 1000)
    for number in range(len(chunks)):
        start, size = chunks.span(number)
        chunks.verify(number, DATA[start : start + size])
        with pytest.raises(CorruptError):
            chunks.verify(number, DATA[start : start + size - 1])
        with pytest.raises(CorruptError):
            chunks.verify(number, bytes([DATA[start] ^ 1]) + DATA[start + 1 : start + size])


@given(start=st.integers(0, len(DATA)), size=st.integers(1, len(DATA)))
def test_the_chunks_of_a_range_hold_it(tmp_path_factory: pytest.TempPathFactory, start: int, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "same"
    path.write_bytes(DATA)
    chunks = list_chunks(path, 1000)
    end = min(start + size, len(DATA))
    held = {place for number in chunks.numbers(start, end) for place in range(*_bounds(chunks.span(number)))}
    assert set(range(start, end)) <= held


def _bounds(span: tuple[int, int]) -> tuple[int, int]:
    return span[0], sum(span)


@pytest.mark.parametrize("cut", [1, 32, 500])
def test_a_list_that_was_cut_is_refused(file: Path, cut: int) -> None:
    with pytest.raises(CorruptError):
        read_chunk_list(list_chunks(file, 1000).encode()[:-cut])


def test_what_is_no_list_is_refused() -> None:
    for data in (b"", b"jiffychk", b"x" * 100):
        with pytest.raises(CorruptError):
            read_chunk_list(data)


def test_a_map_tells_each_objects_list() -> None:
    assert read_chunk_map(encode_chunk_map([(A, B), (C, D)])) == {A: B, C: D}
    assert read_chunk_map(encode_chunk_map([])) == {}


@pytest.mark.parametrize("data", [b"", b"jiffymap" + b"x" * 32, b"y" * 72])
def test_what_is_no_map_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read_chunk_map(data)
