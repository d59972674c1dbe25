"""Clients get tokens of their own when somebody approves who has one: by a page that no other site can use."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from jiffy.errors import ExhaustedError
from jiffy.server import token_flows
from jiffy.server.caller import Caller
from jiffy.server.token_flows import MOST_TRIES, TokenFlows
from jiffy.store.stores import Stores
from tests.server.conftest import Api


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def ask(api: Api, **fields: Any) -> api_pb2.TokenFlowCreateResponse:
    """As a client does that has no token."""
    answer: api_pb2.TokenFlowCreateResponse = await api.stub.TokenFlowCreate(
        api_pb2.TokenFlowCreateRequest(**fields), metadata={"x-modal-host": api.metadata["x-modal-host"]}
    )
    return answer


async def wait(api: Api, asked: api_pb2.TokenFlowCreateResponse, timeout: float = 0.0) -> Any:
    return await api.stub.TokenFlowWait(
        api_pb2.TokenFlowWaitRequest(token_flow_id=asked.token_flow_id, wait_secret=asked.wait_secret, timeout=timeout)
    )


async def approve(
    session: aiohttp.ClientSession,
    asked: api_pb2.TokenFlowCreateResponse,
    code: str,
    token: dict[str, str],
    **headers: str,
) -> int:
    async with session.post(asked.web_url, data={"code": code, **token}, headers=headers) as answer:
        return answer.status


def token_of(api: Api) -> dict[str, str]:
    return dict(json.loads(api.data.token.read_text()))


async def test_who_shows_a_token_and_the_code_lets_the_client_have_one(
    api: Api, session: aiohttp.ClientSession
) -> None:
    asked = await ask(api)
    assert (await wait(api, asked)).timeout
    assert await approve(session, asked, f" {asked.code[:4]}-{asked.code[4:].lower()}", token_of(api)) == 200
    given = await wait(api, asked, 10)
    assert not given.timeout and given.workspace_username == "jiffy"
    metadata = {"x-modal-token-id": given.token_id, "x-modal-token-secret": given.token_secret}
    info = await api.stub.TokenInfoGet(api_pb2.TokenInfoGetRequest(), metadata=metadata)
    assert info.token_id == given.token_id and not info.HasField("expires_at")
    with pytest.raises(GRPCError, match="nobody waits"):
        await wait(api, asked)


async def test_the_page_says_what_it_is_for_and_lets_nothing_else_in(api: Api, session: aiohttp.ClientSession) -> None:
    asked = await ask(api)
    async with session.get(asked.web_url) as answer:
        text = await answer.text()
        assert answer.status == 200 and "asks for a token" in text
        assert asked.code not in text and asked.wait_secret not in text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_wrong_code_or_token_counts_and_the_last_one_ends_it(api: Api, session: aiohttp.ClientSession) -> None:
    asked, right = await ask(api), token_of(api)
    wrong = {**right, "token_secret": "as-guess"}
    assert await approve(session, asked, "ABCDEFGH", right) == 403
    for _ in range(MOST_TRIES - 1):
        assert await approve(session, asked, asked.code, wrong) == 403
    assert await approve(session, asked, asked.code, right) == 404
    with pytest.raises(GRPCError, match="nobody waits"):
        await wait(api, asked)


@pytest.mark.parametrize("headers", [{"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_what_another_site_sends_is_refused(
    api: Api, session: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    asked = await ask(api)
    assert await approve(session, asked, asked.code, token_of(api), **headers) == 403
    assert (await wait(api, asked)).timeout
    own = asked.web_url.removesuffix(f"/token/{asked.token_flow_id}")
    assert await approve(session, asked, asked.code, token_of(api), Origin=own) == 200


async def test_a_stranger_gets_neither_the_page_nor_the_token(api: Api, session: aiohttp.ClientSession) -> None:
    asked = await ask(api)
    async with session.get(asked.web_url + "x") as answer:
        assert answer.status == 404
    asked.wait_secret = "ts-guess"
    with pytest.raises(GRPCError) as refused:
        await wait(api, asked)
    assert refused.value.status is Status.UNAUTHENTICATED


async def test_a_token_lives_as_long_as_it_was_asked_for_and_no_longer_than_the_one_shown(
    api: Api, session: aiohttp.ClientSession
) -> None:
    first = await ask(api, expires_in_seconds=3600)
    await approve(session, first, first.code, token_of(api))
    given = await wait(api, first, 10)
    second = await ask(api)
    shown = {"token_id": given.token_id, "token_secret": given.token_secret}
    assert await approve(session, second, second.code, shown) == 200
    derived = await wait(api, second, 10)
    metadata = {"x-modal-token-id": derived.token_id, "x-modal-token-secret": derived.token_secret}
    info = await api.stub.TokenInfoGet(api_pb2.TokenInfoGetRequest(), metadata=metadata)
    assert 3500 < info.expires_at.seconds - time.time() <= 3600


async def test_a_client_deletes_its_token_but_not_the_servers_own(api: Api, session: aiohttp.ClientSession) -> None:
    asked = await ask(api)
    await approve(session, asked, asked.code, token_of(api))
    given = await wait(api, asked, 10)
    metadata = {"x-modal-token-id": given.token_id, "x-modal-token-secret": given.token_secret}
    own = api_pb2.TokenDeleteRequest(token_id=token_of(api)["token_id"])
    with pytest.raises(GRPCError, match="the token of clients"):
        await api.stub.TokenDelete(own, metadata=metadata)
    await api.stub.TokenDelete(api_pb2.TokenDeleteRequest(token_id=given.token_id), metadata=metadata)
    with pytest.raises(GRPCError, match="did not issue"):
        await api.stub.TokenInfoGet(api_pb2.TokenInfoGetRequest(), metadata=metadata)


async def test_what_is_asked_too_often_is_refused_until_some_are_over(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_flows, "_MOST_FLOWS", 1)
    flows = TokenFlows(stores.tokens)
    caller = Caller("", "", "1.6.4", "", 1, "")
    first = await flows.token_flow_create(api_pb2.TokenFlowCreateRequest(), caller)
    with pytest.raises(ExhaustedError):
        await flows.token_flow_create(api_pb2.TokenFlowCreateRequest(), caller)
    flows.find(first.token_flow_id).ends_at = 0.0
    assert (await flows.token_flow_create(api_pb2.TokenFlowCreateRequest(), caller)).code != first.code
