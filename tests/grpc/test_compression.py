"""Header blocks, beside a library that packs them."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from jiffy.grpc.compression import HeaderUnpacker
from jiffy.grpc.frames import BrokenConnectionError, Code

NAMES = st.sampled_from([":path", ":method", "te", "x-idempotency-key", "grpc-timeout", "user-agent", "x-ä"])
VALUES = st.one_of(st.text(max_size=60), st.sampled_from(["POST", "trailers", "/modal.client.ModalClient/FunctionMap"]))
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), max_size=12)


@given(BLOCKS, st.booleans())
def test_what_was_packed_is_unpacked_block_after_block(blocks: list[list[tuple[str, str]]], is_dense: bool) -> None:
    encoder, unpacker = Encoder(), HeaderUnpacker(2**20)
    for pairs in blocks:
        assert unpacker.unpack(encoder.encode(pairs, huffman=is_dense)) == pairs


@given(BLOCKS, st.lists(st.integers(0, 4096), min_size=12, max_size=12))
def test_the_table_may_shrink_and_grow(blocks: list[list[tuple[str, str]]], sizes: list[int]) -> None:
    encoder, unpacker = Encoder(), HeaderUnpacker(2**20)
    for pairs, size in zip(blocks, sizes, strict=False):
        encoder.header_table_size = size
        assert unpacker.unpack(encoder.encode(pairs)) == pairs


@given(BLOCKS)
def test_what_is_never_to_be_kept_is_read_all_the_same(blocks: list[list[tuple[str, str]]]) -> None:
    encoder, unpacker = Encoder(), HeaderUnpacker(2**20)
    for pairs in blocks:
        assert unpacker.unpack(encoder.encode([(name, value, True) for name, value in pairs])) == pairs


@given(st.binary(max_size=80))
def test_any_bytes_are_headers_or_refused(block: bytes) -> None:
    try:
        HeaderUnpacker(2**20).unpack(block)
    except BrokenConnectionError as error:
        assert error.code is Code.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # entry 0
        b"\xff\x80\x80\x80\x80\x80\x01",  # a number without end
        b"\xbe",  # an entry that nobody put there
        b"\x00\x05abc",  # cut off
        b"\x00\x81\xff\x00",  # padding of eight bits
        b"\x00\x84\xff\xff\xff\xff\x00",  # the end of the text within it
        b"\x3f\xe2\x1f",  # a table of more than 4096 bytes
        b"\x82\x20",  # a new size behind a header
    ],
)
def test_what_cannot_be_is_refused(block: bytes) -> None:
    with pytest.raises(BrokenConnectionError) as caught:
        HeaderUnpacker(2**20).unpack(block)
    assert caught.value.code is Code.COMPRESSION_ERROR


def test_headers_that_unpack_to_too_much_are_refused() -> None:
    unpacker = HeaderUnpacker(1000)
    first = b"\x40\x01n\x7f\x49" + b"v" * 200
    assert unpacker.unpack(first) == [("n", "v" * 200)]
    with pytest.raises(BrokenConnectionError) as caught:
        unpacker.unpack(b"\xbe" * 10)
    assert caught.value.code is Code.ENHANCE_YOUR_CALM
