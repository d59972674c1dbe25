from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jiffy.files import create_file, replace_file


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    for data in ("first", b"second"):
        replace_file(tmp_path / "name.json", data)
    assert (tmp_path / "name.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["name.json"]


def test_a_private_one_is_read_by_its_owner_only(tmp_path: Path) -> None:
    replace_file(tmp_path / "key", "secret", private=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_link_goes_on_leading_there(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "key").symlink_to(tmp_path / "shared/key")
    for data in ("first", "second"):
        replace_file(tmp_path / "key", data)
    assert (tmp_path / "key").is_symlink()
    assert (tmp_path / "shared/key").read_text() == "second"


def test_what_is_there_is_not_created_again(tmp_path: Path) -> None:
    for data in ("first", "second"):
        create_file(tmp_path / "key", data)
    assert (tmp_path / "key").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_of_many_who_create_it_at_once_one_does(tmp_path: Path) -> None:
    def create(number: int) -> str:
        create_file(tmp_path / "key", f"{number}" * 10_000)
        return (tmp_path / "key").read_text()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(create, range(8)))) == 1


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "name", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
