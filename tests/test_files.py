from pathlib import Path

from jiffy.files import replace_file


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    for data in ("first", b"second"):
        replace_file(tmp_path / "name.json", data)
    assert (tmp_path / "name.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["name.json"]


def test_a_private_one_is_read_by_its_owner_only(tmp_path: Path) -> None:
    replace_file(tmp_path / "key", "secret", private=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
