import pytest

from jiffy.errors import UnsupportedError
from jiffy.extras import load_extra


def test_what_is_installed_is_loaded() -> None:
    assert load_extra("json", "nothing can be read", "json").loads("1") == 1


def test_what_is_not_installed_is_said_with_how_to_get_it() -> None:
    with pytest.raises(UnsupportedError, match=r"nothing can be had: nowhere is not installed .*jiffy\[moon\]"):
        load_extra("nowhere.at_all", "nothing can be had", "moon")
