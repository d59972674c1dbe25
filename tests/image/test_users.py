"""Users are looked up in the image's own files."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError
from jiffy.image.users import ImageUser, find_group, find_user

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\nana:x:1000:100:Ana:/home/ana:/bin/sh\nbad:x:y:z:::\n"
GROUP = "root:x:0:\nusers:x:100:\naudio:x:29:bob,ana\n"


def test_nobody_named_is_root() -> None:
    assert find_user("", PASSWD, GROUP) == ImageUser(0, 0, (), "/root")


def test_a_name_brings_its_groups_and_home() -> None:
    assert find_user("ana", PASSWD, GROUP) == ImageUser(1000, 100, (29,), "/home/ana")


def test_a_number_that_has_a_name_is_that_user() -> None:
    assert find_user("1000", PASSWD, GROUP).gid == 100


def test_a_number_without_a_name_is_taken_as_it_is() -> None:
    assert find_user("7", PASSWD, GROUP) == ImageUser(7, 0, (), "/")


def test_a_group_replaces_all_others() -> None:
    assert find_user("ana:audio", PASSWD, GROUP) == ImageUser(1000, 29, (), "/home/ana")
    assert find_user("ana:5", PASSWD, GROUP).gid == 5


@pytest.mark.parametrize("name", ["eva", "bad", "ana:nobody"])
def test_a_name_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="the image has no"):
        find_user(name, PASSWD, GROUP)


def test_groups_are_found_by_name_or_number() -> None:
    assert [find_group("audio", GROUP), find_group("29", GROUP), find_group("31", GROUP)] == [29, 29, 31]
