"""Who a client is: its token says so."""

from __future__ import annotations

from jiffy.errors import UnauthenticatedError
from jiffy.grpc.connection import Stream
from jiffy.server.caller import Caller, read_caller
from jiffy.store.stores import Stores
from jiffy.store.tokens import TokenKind


class TokenIdentity:
    """Identifies clients by the token in their request's metadata."""

    def __init__(self, stores: Stores, http_port: int) -> None:
        self._stores = stores
        self._http_port = http_port

    async def __call__(self, stream: Stream) -> Caller:
        metadata = stream.metadata
        token_id = str(metadata.get("x-modal-token-id", ""))
        secret = str(metadata.get("x-modal-token-secret", ""))
        if await self._stores.tokens.kind_of(token_id, secret) is not TokenKind.CLIENT:
            raise UnauthenticatedError(
                "this server did not issue the token",
                hint='`eval "$(jiffy env)"` sets the right one in a shell, `jiffy login` in a profile',
            )
        return read_caller(
            metadata, token_id=token_id, task_id="", http_port=self._http_port, authority=stream.authority
        )
