"""Tokens that clients ask for: `modal token new` opens a page of this server, on which a person approves by showing a token
that he has already; then the client gets one of its own.

What is asked for is kept in memory, for some minutes: anybody may ask, and nobody's question outlives the server.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import ExhaustedError, InvalidError, NotFoundError, UnauthenticatedError
from jiffy.identifiers import random_id
from jiffy.server.caller import Caller
from jiffy.server.environments import WORKSPACE
from jiffy.store.tokens import TokenKind, Tokens

LIFETIME: Final = 600.0
MOST_TRIES: Final = 5
LONGEST_POLL: Final = 55.0
_MOST_FLOWS: Final = 1000
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_LENGTH: Final = 8


@dataclass(slots=True)
class TokenFlow:
    """One client that waits. `code` is what its terminal shows, `wait_secret` what only the client knows. `lifetime`:
    seconds that the token is to be good for, 0 for as long as it may. `granted` is the token, once somebody has approved."""

    flow_id: str
    code: str
    wait_secret: str
    client_version: str
    lifetime: int
    ends_at: float
    tries_left: int = MOST_TRIES
    granted: tuple[str, str] | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class TokenFlows:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._flows: dict[str, TokenFlow] = {}

    async def token_flow_create(
        self, request: api_pb2.TokenFlowCreateRequest, caller: Caller
    ) -> api_pb2.TokenFlowCreateResponse:
        if caller.task_id:
            raise UnauthenticatedError("a container is known without a token")
        self._forget_old()
        if len(self._flows) >= _MOST_FLOWS:
            raise ExhaustedError("too many clients wait for a token", hint="try again in some minutes")
        flow = TokenFlow(
            flow_id=random_id("tf"),
            code="".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH)),
            wait_secret=random_id("ts"),
            client_version=caller.client_version,
            lifetime=request.expires_in_seconds,
            ends_at=time.monotonic() + LIFETIME,
        )
        self._flows[flow.flow_id] = flow
        return api_pb2.TokenFlowCreateResponse(
            token_flow_id=flow.flow_id,
            web_url=caller.url(f"/token/{flow.flow_id}"),
            code=flow.code,
            wait_secret=flow.wait_secret,
        )

    async def token_flow_wait(
        self, request: api_pb2.TokenFlowWaitRequest, caller: Caller
    ) -> api_pb2.TokenFlowWaitResponse:
        """The token, told this once; `timeout` is set when nobody has approved yet."""
        flow = self.find(request.token_flow_id)
        if not hmac.compare_digest(flow.wait_secret.encode(), request.wait_secret.encode()):
            raise UnauthenticatedError("this is not the client that asked for the token")
        patience = min(request.timeout, LONGEST_POLL, flow.ends_at - time.monotonic())
        try:
            await asyncio.wait_for(flow.answered.wait(), max(0.0, patience))
        except TimeoutError:
            return api_pb2.TokenFlowWaitResponse(timeout=True)
        if flow.granted is None:
            raise _over()
        self._flows.pop(flow.flow_id, None)
        token_id, secret = flow.granted
        return api_pb2.TokenFlowWaitResponse(token_id=token_id, token_secret=secret, workspace_username=WORKSPACE)

    async def token_delete(self, request: api_pb2.TokenDeleteRequest, caller: Caller) -> Empty:
        await revoke_token(self._tokens, request.token_id)
        return Empty()

    def find(self, flow_id: str) -> TokenFlow:
        self._forget_old()
        if (flow := self._flows.get(flow_id)) is None:
            raise _over()
        return flow

    async def approve(self, flow_id: str, code: str, token_id: str, secret: str) -> str:
        """Issue a token to the client that waits; gives its id. What is wrong is told in one way, whatever it was, and the
        question is dropped when it was wrong too often."""
        flow = self.find(flow_id)
        self._count_try(flow)
        known = await self._tokens.kind_of(token_id, secret)
        if not _is_code(flow, code) or known is not TokenKind.CLIENT:
            raise UnauthenticatedError("the code or the token is wrong", why=f"{flow.tries_left} tries are left")
        shown = await self._tokens.get(token_id)
        if flow.granted is not None:
            raise InvalidError("this was approved already")
        flow.granted = (f"ak-{secrets.token_hex(11)}", f"as-{secrets.token_hex(22)}")
        wanted = time.time() + flow.lifetime if flow.lifetime else None
        ends = [each for each in (wanted, shown.expires_at) if each is not None]
        await self._tokens.add(*flow.granted, expires_at=min(ends, default=None), approved_by=token_id)
        flow.answered.set()
        return flow.granted[0]

    def _count_try(self, flow: TokenFlow) -> None:
        """Before anything is compared, so that many guesses at once count each."""
        if flow.tries_left == 0:
            self._flows.pop(flow.flow_id, None)
            flow.answered.set()
            raise _over()
        flow.tries_left -= 1

    def _forget_old(self) -> None:
        now = time.monotonic()
        for flow in [each for each in self._flows.values() if each.ends_at <= now]:
            del self._flows[flow.flow_id]


async def revoke_token(tokens: Tokens, token_id: str) -> None:
    """From now on it is good for nothing. A token that the server made for its clients stays."""
    if (await tokens.get(token_id)).stays:
        raise InvalidError(f"{token_id} is the token of clients", why="without it nobody could ask the server")
    await tokens.revoke(token_id)


def _is_code(flow: TokenFlow, code: str) -> bool:
    given = code.replace("-", "").replace(" ", "").upper()
    return hmac.compare_digest(flow.code.encode(), given.encode())


def _over() -> NotFoundError:
    return NotFoundError(
        "nobody waits for this token", why="it was asked for too long ago, or never", hint="run `modal token new` again"
    )
