"""Tokens of the API: short-lived proofs of who the caller is, for servers that share this one's key."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Final

import jwt
from modal_proto import api_pb2

from jiffy.errors import UnauthenticatedError
from jiffy.files import create_file
from jiffy.server.caller import Caller
from jiffy.server.environments import WORKSPACE
from jiffy.store.tokens import Tokens as IssuedTokens

ALGORITHM: Final = "HS256"
LIFETIME: Final = 1200
"""Seconds. The client asks for another when half of it has passed."""

_ROUTER: Final = "command-router"


class Tokens:
    """`key_file` holds the key that signs."""

    def __init__(self, key_file: Path, issued: IssuedTokens) -> None:
        self.key = read_signing_key(key_file)
        self._issued = issued

    async def auth_token_get(
        self, request: api_pb2.AuthTokenGetRequest, caller: Caller
    ) -> api_pb2.AuthTokenGetResponse:
        now = int(time.time())
        claims = {"sub": caller.task_id or caller.token_id, "iat": now, "exp": now + LIFETIME}
        return api_pb2.AuthTokenGetResponse(token=jwt.encode(claims, self.key, ALGORITHM))

    async def token_info_get(
        self, request: api_pb2.TokenInfoGetRequest, caller: Caller
    ) -> api_pb2.TokenInfoGetResponse:
        """Of the token that the caller shows: containers have none."""
        token = await self._issued.get(caller.token_id)
        info = api_pb2.TokenInfoGetResponse(
            token_id=token.token_id,
            workspace_id="ac-jiffy",
            workspace_name=WORKSPACE,
            user_identity=api_pb2.UserIdentity(user_id="us-jiffy", username=WORKSPACE),
        )
        info.created_at.FromSeconds(int(token.created_at))
        if token.expires_at is not None:
            info.expires_at.FromSeconds(int(token.expires_at))
        return info

    def grant(self, task_id: str) -> str:
        """A token with which commands are run in a container."""
        now = int(time.time())
        claims = {"sub": task_id, "aud": _ROUTER, "iat": now, "exp": now + LIFETIME}
        return jwt.encode(claims, self.key, ALGORITHM)

    def check_grant(self, token: str) -> str:
        """Which container it is for; UnauthenticatedError when it is none, or is too old."""
        try:
            claims = jwt.decode(token, self.key, [ALGORITHM], audience=_ROUTER, options={"require": ["exp", "sub"]})
        except jwt.InvalidTokenError as error:
            raise UnauthenticatedError("the token for commands in a container is not good", why=str(error)) from error
        return str(claims["sub"])


def read_signing_key(path: Path) -> str:
    """It is minted when it is not there."""
    if not path.exists():
        create_file(path, secrets.token_hex(32), private=True)
    return path.read_text()
