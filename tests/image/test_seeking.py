"""A gzip stream is read from its middle, wherever in a byte a block begins."""

from __future__ import annotations

import gzip
import zlib

import pytest

from jiffy.image import seeking
from jiffy.image.compression import ERRORS
from jiffy.image.seeking import inflate_within


@pytest.mark.parametrize("length", range(8))
def test_what_comes_before_is_empty_and_has_the_missing_bits(length: int) -> None:
    """Closed by an empty block that is the last, it is a whole stream of nothing."""
    bits = [*seeking._PADDINGS[length], 1, 1, 0, *[0] * 7]
    data = sum(bit << place for place, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
    stream = zlib.decompressobj(-15)
    assert len(seeking._PADDINGS[length]) % 8 == length
    assert stream.decompress(data) == b"" and stream.eof


def test_members_that_follow_are_read_too() -> None:
    data = gzip.compress(b"one", mtime=0)[10:] + gzip.compress(b"two") + gzip.compress(b"three")
    assert inflate_within(data, 0, b"", 100) == b"onetwothree"
    assert inflate_within(data, 0, b"", 5) == b"onetw"


def test_a_stream_that_ends_early_gives_what_it_has() -> None:
    assert inflate_within(gzip.compress(b"one", mtime=0)[10:-4], 0, b"", 9) == b"one"
    assert inflate_within(b"", 3, b"", 9) == b""


def test_what_is_no_stream_is_an_error() -> None:
    with pytest.raises(ERRORS):
        inflate_within(b"\xff" * 100, 3, b"w", 9)
