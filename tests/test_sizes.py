import pytest

from jiffy.errors import InvalidError
from jiffy.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000000", 1000000), ("20GiB", 20 * 2**30), ("512M", 512 * 2**20), (" 1.5 kb ", 1536), ("2TB", 2 * 2**40)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1PB", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no size"):
        parse_size(text)
