"""Tokens are known by their secrets, for what they are for, until they are revoked."""

from __future__ import annotations

import asyncio
import time

from jiffy.store.stores import Stores
from jiffy.store.tokens import TokenKind


async def test_a_token_is_good_with_its_secret_only(stores: Stores) -> None:
    await stores.tokens.add("ak-1", "sesame")
    await stores.tokens.add("wk-1", "open", TokenKind.WORKER)
    assert await stores.tokens.kind_of("ak-1", "sesame") is TokenKind.CLIENT
    assert await stores.tokens.kind_of("wk-1", "open") is TokenKind.WORKER
    for guess in (("ak-1", "open"), ("wk-1", ""), ("wk-2", "open")):
        assert await stores.tokens.kind_of(*guess) is None


async def test_tokens_are_listed_in_the_order_in_which_they_were_issued(stores: Stores) -> None:
    await stores.tokens.add("wk-2", "open", TokenKind.WORKER)
    await stores.tokens.add("ak-1", "sesame")
    assert [(token.token_id, token.kind) for token in await stores.tokens.issued()] == [
        ("wk-2", TokenKind.WORKER),
        ("ak-1", TokenKind.CLIENT),
    ]


async def test_a_revoked_token_is_good_for_nothing_at_once(stores: Stores) -> None:
    await stores.tokens.add("wk-1", "open", TokenKind.WORKER)
    assert await stores.tokens.kind_of("wk-1", "open") is TokenKind.WORKER
    assert await stores.tokens.revoke("wk-1")
    assert await stores.tokens.kind_of("wk-1", "open") is None
    assert not await stores.tokens.revoke("wk-1")


async def test_a_new_secret_takes_the_place_of_the_old_one(stores: Stores) -> None:
    await stores.tokens.add("ak-1", "sesame")
    await stores.tokens.add("ak-1", "open")
    assert await stores.tokens.kind_of("ak-1", "sesame") is None
    assert await stores.tokens.kind_of("ak-1", "open") is TokenKind.CLIENT


async def test_a_token_is_good_until_it_expires(stores: Stores) -> None:
    await stores.tokens.add("ak-1", "sesame", expires_at=time.time() + 0.05, approved_by="ak-0")
    assert await stores.tokens.kind_of("ak-1", "sesame") is TokenKind.CLIENT
    await asyncio.sleep(0.06)
    assert await stores.tokens.kind_of("ak-1", "sesame") is None


async def test_what_the_server_made_for_its_clients_stays(stores: Stores) -> None:
    await stores.tokens.add("ak-1", "sesame")
    await stores.tokens.add("ak-2", "sesame", approved_by="ak-1")
    await stores.tokens.add("wk-1", "open", TokenKind.WORKER)
    assert [(await stores.tokens.get(name)).stays for name in ("ak-1", "ak-2", "wk-1")] == [True, False, False]
