"""Secrets in the database: nobody reads them there, and a wrong key is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from jiffy.errors import UnavailableError
from jiffy.store.ciphers import Cipher, KeyCipher, NoCipher
from jiffy.store.secrets import Secret
from jiffy.store.sqlite import SqliteDatabase
from jiffy.store.stores import Stores, make_stores

PASSWORD = "correct horse"


def open_with(path: Path, cipher: Cipher) -> Stores:
    return make_stores(SqliteDatabase(path), cipher)


def written(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return str(connection.execute("SELECT variables FROM secrets").fetchall())


async def add_secret(path: Path, cipher: Cipher) -> None:
    stores = open_with(path, cipher)
    await stores.secrets.put(Secret("st-1", "main", "login", "", {"PASSWORD": PASSWORD}))
    stores.close()


async def test_a_secret_is_not_to_be_seen_in_the_database(tmp_path: Path) -> None:
    await add_secret(tmp_path / "db", KeyCipher(b"key"))
    assert PASSWORD not in written(tmp_path / "db")
    stores = open_with(tmp_path / "db", KeyCipher(b"key"))
    assert (await stores.secrets.get("st-1")).variables == {"PASSWORD": PASSWORD}
    stores.close()


@pytest.mark.parametrize("cipher", [KeyCipher(b"another"), NoCipher()])
async def test_without_its_key_it_cannot_be_read(tmp_path: Path, cipher: Cipher) -> None:
    await add_secret(tmp_path / "db", KeyCipher(b"key"))
    stores = open_with(tmp_path / "db", cipher)
    with pytest.raises(UnavailableError, match="a secret cannot be read"):
        await stores.secrets.get("st-1")
    stores.close()


async def test_what_was_written_before_there_was_a_key_is_encrypted_later(tmp_path: Path) -> None:
    await add_secret(tmp_path / "db", NoCipher())
    assert PASSWORD in written(tmp_path / "db")
    stores = open_with(tmp_path / "db", KeyCipher(b"key"))
    await stores.secrets.encrypt_all()
    assert (await stores.secrets.find("main", "login")) is not None
    stores.close()
    assert PASSWORD not in written(tmp_path / "db")
