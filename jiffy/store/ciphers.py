"""What of the store is not for whoever reads the database: it is encrypted with a key that lies elsewhere."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Protocol

from cryptography.fernet import Fernet, InvalidToken

from jiffy.errors import UnavailableError

_MARK: Final = "fernet:"


class Cipher(Protocol):
    def encrypt(self, text: str) -> str: ...
    def decrypt(self, text: str) -> str: ...


class NoCipher:
    """Where nothing is to be hidden, as in tests. What is encrypted it cannot read."""

    def encrypt(self, text: str) -> str:
        return text

    def decrypt(self, text: str) -> str:
        if text.startswith(_MARK):
            raise UnavailableError("a secret cannot be read", why="it is encrypted, and the key is not here")
        return text


class KeyCipher:
    """By a key of any length. What was written before there was one is read as it is."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"secrets of the store\0" + key).digest()))

    def encrypt(self, text: str) -> str:
        return _MARK + self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        if not text.startswith(_MARK):
            return text
        try:
            return self._fernet.decrypt(text.removeprefix(_MARK)).decode()
        except InvalidToken:
            raise UnavailableError(
                "a secret cannot be read",
                why="it was encrypted with another key",
                hint="put back the signing.key that belongs to the database",
            ) from None
