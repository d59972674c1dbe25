"""Data directories of servers that share their objects and keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError
from jiffy.server.certificates import ensure_certificate
from jiffy.server.sharing import share
from jiffy.server.tokens import read_signing_key


def open_data(root: Path, folder: Path) -> DataDirectory:
    data = DataDirectory(root)
    share(data, folder)
    data.create()
    return data


def test_servers_that_share_a_folder_have_the_same_objects_and_keys(tmp_path: Path) -> None:
    one, other = (open_data(tmp_path / name, tmp_path / "shared") for name in ("one", "other"))
    (one.objects / "aa").write_text("an object")
    assert (other.objects / "aa").read_text() == "an object"
    assert read_signing_key(one.signing_key) == read_signing_key(other.signing_key)
    assert ensure_certificate(one.certificate) == ensure_certificate(other.certificate)


def test_what_one_server_is_alone_with_stays_with_it(tmp_path: Path) -> None:
    one, other = (open_data(tmp_path / name, tmp_path / "shared") for name in ("one", "other"))
    one.token.write_text("secret")
    (one.containers / "ta-1").mkdir()
    assert not other.token.exists()
    assert list(other.containers.iterdir()) == []


def test_a_server_shares_again_when_it_starts_again(tmp_path: Path) -> None:
    for _ in range(2):
        data = open_data(tmp_path / "one", tmp_path / "shared")
    assert data.objects.resolve() == tmp_path / "shared/objects"


def test_an_empty_data_directory_may_have_been_made_before(tmp_path: Path) -> None:
    DataDirectory(tmp_path / "one").create()
    assert open_data(tmp_path / "one", tmp_path / "shared").objects.is_symlink()


@pytest.mark.parametrize("name", ["objects/aa", "signing.key"])
def test_a_server_that_has_contents_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    data = DataDirectory(tmp_path / "one")
    data.create()
    (data.root / name).write_text("mine")
    with pytest.raises(ConflictError, match="this server's own"):
        share(data, tmp_path / "shared")
    assert (data.root / name).read_text() == "mine"


def test_the_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    open_data(tmp_path / "one", tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o077 == 0
