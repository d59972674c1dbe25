"""Who calls the command router: somebody with a token for one container."""

from __future__ import annotations

from typing import Final

from jiffy.grpc.connection import Stream
from jiffy.server.caller import Caller, read_caller
from jiffy.server.service import ROUTER_METHODS, Identify
from jiffy.server.tokens import Tokens

_PATHS: Final = frozenset(method.path for method in ROUTER_METHODS)


class RouterIdentity:
    """Identifies callers of the command router: their `task_id` is the container that they may run commands in. Callers of
    other methods are left to `others`."""

    def __init__(self, tokens: Tokens, others: Identify) -> None:
        self._tokens = tokens
        self._others = others

    async def __call__(self, stream: Stream) -> Caller:
        if stream.path not in _PATHS:
            return await self._others(stream)
        _, _, token = str(stream.metadata.get("authorization", "")).partition("Bearer ")
        task_id = self._tokens.check_grant(token)
        return read_caller(stream, token_id="", task_id=task_id, http_port=0)
