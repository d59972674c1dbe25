"""Who may run commands in which container."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import jwt
import pytest
from modal_proto import api_pb2

from jiffy.errors import UnauthenticatedError
from jiffy.grpc.connection import Connection, Stream
from jiffy.grpc.headers import RequestHead
from jiffy.server.caller import Caller, read_caller
from jiffy.server.router_identity import RouterIdentity
from jiffy.server.tokens import ALGORITHM, LIFETIME, Tokens
from jiffy.store.tokens import Tokens as IssuedTokens

START = "/modal.task_command_router.TaskCommandRouter/TaskExecStart"
CLIENT = Caller("ak-1", "", "1.6.4", "127.0.0.1", 0, "")


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return tokens_of(tmp_path / "signing.key")


def tokens_of(key_file: Path) -> Tokens:
    return Tokens(key_file, cast(IssuedTokens, None))


def request(path: str, authorization: str | None = None) -> Stream:
    metadata = {} if authorization is None else {"authorization": authorization}
    return Stream(cast(Connection, None), 1, RequestHead(path, "here:80", None, metadata), b"", 0)


async def identify(tokens: Tokens, stream: Stream) -> Caller:
    async def others(stream: Stream) -> Caller:
        return read_caller(stream, token_id="ak-1", task_id="", http_port=0)

    return await RouterIdentity(tokens, others)(stream)


async def test_who_was_granted_a_container_is_known_by_it_alone(tokens: Tokens) -> None:
    caller = await identify(tokens, request(START, f"Bearer {tokens.grant('ta-1')}"))
    assert (caller.task_id, caller.token_id) == ("ta-1", "")


async def test_callers_of_other_methods_are_left_to_others(tokens: Tokens) -> None:
    stream = request("/modal.client.ModalClient/AppList", f"Bearer {tokens.grant('ta-1')}")
    caller = await identify(tokens, stream)
    assert (caller.task_id, caller.token_id) == ("", "ak-1")


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Bearer x.y.z", "Basic YTpi"])
async def test_without_a_grant_nobody_gets_in(tokens: Tokens, authorization: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match="is not good"):
        await identify(tokens, request(START, authorization))


async def test_a_grant_of_another_server_is_not_good(tokens: Tokens, tmp_path: Path) -> None:
    stranger = tokens_of(tmp_path / "another.key")
    with pytest.raises(UnauthenticatedError, match="is not good"):
        await identify(tokens, request(START, f"Bearer {stranger.grant('ta-1')}"))


async def test_a_token_of_the_api_is_no_grant(tokens: Tokens) -> None:
    issued = await tokens.auth_token_get(api_pb2.AuthTokenGetRequest(), CLIENT)
    with pytest.raises(UnauthenticatedError, match="is not good"):
        await identify(tokens, request(START, f"Bearer {issued.token}"))


async def test_a_grant_ends(tokens: Tokens) -> None:
    claims = jwt.decode(tokens.grant("ta-1"), tokens.key, [ALGORITHM], audience="command-router")
    old = {**claims, "iat": int(time.time()) - LIFETIME - 60, "exp": int(time.time()) - 60}
    with pytest.raises(UnauthenticatedError, match="expired"):
        await identify(tokens, request(START, f"Bearer {jwt.encode(old, tokens.key, ALGORITHM)}"))
