"""Addresses of servers that may name the certificate that is expected there, as a fragment: `https://host:9902#sha256=...`.

So a server needs no certificate of a public authority, and no other one is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from jiffy.errors import InvalidError, UnauthenticatedError

_PIN: Final = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Address:
    """`url` is without the pin; `pin` is the SHA-256 of the certificate, empty when any that an authority signed will do."""

    url: str
    pin: bytes
    is_secure: bool
    host: str
    port: int

    def context(self) -> ssl.SSLContext | None:
        """For connections to it; None when they are not encrypted. After the handshake `check` must be called."""
        if not self.is_secure:
            return None
        context = ssl.create_default_context()
        if self.pin:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def check(self, certificate: bytes | None) -> None:
        """UnauthenticatedError unless a peer's certificate (DER) is the expected one."""
        if self.pin and not hmac.compare_digest(hashlib.sha256(certificate or b"").digest(), self.pin):
            raise self.stranger()

    def stranger(self) -> UnauthenticatedError:
        """What is wrong when somebody else answers there."""
        return UnauthenticatedError(
            f"{self.url} is not the server that issued the token",
            why="it has another certificate",
            hint="ask the server for a new token: `jiffy token create`",
        )


def read_address(text: str) -> Address:
    """InvalidError when it is none."""
    parts = urlsplit(text)
    pin = _PIN.fullmatch(parts.fragment)
    try:
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or (parts.fragment and pin is None):
        raise InvalidError(f"{text} is no address of a server", hint="such as https://host:9902")
    is_secure = parts.scheme == "https"
    return Address(
        url=text.partition("#")[0].rstrip("/"),
        pin=bytes.fromhex(pin[1]) if pin else b"",
        is_secure=is_secure,
        host=parts.hostname,
        port=port or (443 if is_secure else 80),
    )


def pinned(url: str, pin: str) -> str:
    """An address that expects the certificate with this SHA-256, in hex."""
    return f"{url.partition('#')[0]}#sha256={pin}"
