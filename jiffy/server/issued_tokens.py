"""Tokens for workers from elsewhere and for guarded web endpoints: issued, listed and revoked by who has a client's
token."""

from __future__ import annotations

import secrets

from aiohttp import web

from jiffy.errors import ConflictError, InvalidError
from jiffy.server.token_flows import revoke_token
from jiffy.store.tokens import TokenKind, Tokens


class IssuedTokens:
    """`gate` is where workers join, `pin` the fingerprint of its certificate; both are empty without a gate."""

    def __init__(self, tokens: Tokens, gate: str, pin: str) -> None:
        self._tokens = tokens
        self._gate = gate
        self._pin = pin

    async def answer_list(self, request: web.Request) -> web.StreamResponse:
        issued = await self._tokens.issued()
        return web.json_response(
            [
                {
                    "token_id": token.token_id,
                    "kind": token.kind,
                    "created_at": token.created_at,
                    "expires_at": token.expires_at,
                    "approved_by": token.approved_by,
                }
                for token in issued
            ]
        )

    async def answer_new(self, request: web.Request) -> web.StreamResponse:
        """Its secret is told this once. For workers, unless the request says that it is for a `proxy`."""
        kind = (await request.json()).get("kind", TokenKind.WORKER)
        if kind not in (TokenKind.WORKER, TokenKind.PROXY):
            raise InvalidError(f"no token is for {kind!r}")
        return await (self._issue_for_workers() if kind == TokenKind.WORKER else self._issue_for_proxies())

    async def _issue_for_proxies(self) -> web.Response:
        """What requests to guarded endpoints show as Modal-Key and Modal-Secret."""
        token_id, secret = f"wk-{secrets.token_hex(11)}", f"ws-{secrets.token_hex(22)}"
        await self._tokens.add(token_id, secret, TokenKind.PROXY)
        return web.json_response({"token_id": token_id, "token_secret": secret})

    async def _issue_for_workers(self) -> web.Response:
        if not self._gate:
            raise ConflictError("no worker can join this server", hint="start it with --gate HOST:PORT")
        token_id, secret = f"wk-{secrets.token_hex(11)}", f"ws-{secrets.token_hex(22)}"
        await self._tokens.add(token_id, secret, TokenKind.WORKER)
        return web.json_response({"token": f"{token_id}:{secret}:{self._pin}", "gate": self._gate})

    async def answer_revoke(self, request: web.Request) -> web.StreamResponse:
        """From now on nobody uses it; workers that have joined with it are sent away when they connect again."""
        await revoke_token(self._tokens, str((await request.json()).get("token_id", "")))
        return web.json_response({})
