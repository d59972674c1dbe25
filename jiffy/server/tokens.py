"""Tokens of the API: short-lived proofs of who the caller is, for servers that share this one's key."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Final

import jwt
from modal_proto import api_pb2

from jiffy.files import create_file
from jiffy.server.caller import Caller

ALGORITHM: Final = "HS256"
LIFETIME: Final = 1200
"""Seconds. The client asks for another when half of it has passed."""


class Tokens:
    """`key_file` holds the key that signs."""

    def __init__(self, key_file: Path) -> None:
        self.key = read_signing_key(key_file)

    async def auth_token_get(
        self, request: api_pb2.AuthTokenGetRequest, caller: Caller
    ) -> api_pb2.AuthTokenGetResponse:
        now = int(time.time())
        claims = {"sub": caller.task_id or caller.token_id, "iat": now, "exp": now + LIFETIME}
        return api_pb2.AuthTokenGetResponse(token=jwt.encode(claims, self.key, ALGORITHM))


def read_signing_key(path: Path) -> str:
    """It is minted when it is not there."""
    if not path.exists():
        create_file(path, secrets.token_hex(32), private=True)
    return path.read_text()
