import re

from jiffy.identifiers import derived_id, random_id, task_id


def test_ids_look_as_the_client_checks_them() -> None:
    assert re.fullmatch(r"ap-[a-zA-Z0-9]{22}", random_id("ap"))
    assert re.fullmatch(r"fu-[0-9a-zA-Z]+", derived_id("fu", "a"))
    assert all(re.fullmatch(r"ta-[0-9A-Z]{26}", task_id()) for _ in range(100))


def test_no_task_looks_like_a_sandbox() -> None:
    assert not any(task_id().endswith("V") for _ in range(100))


def test_the_same_parts_give_the_same_id_and_others_another() -> None:
    assert derived_id("fc", "a", "b") == derived_id("fc", "a", "b")
    assert derived_id("fc", "a", "b") != derived_id("fc", "ab", "")
    assert derived_id("fc", "a") != derived_id("in", "a")


def test_random_ids_differ() -> None:
    assert len({random_id("ap") for _ in range(1000)}) == 1000
