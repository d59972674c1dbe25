"""RPCs are noted once each, with who asked, and only when that is wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status

from jiffy.grpc.connection import Stream
from jiffy.server.answered import VARIABLE, noting_answers
from jiffy.server.service import METHODS, Method


def stream(**metadata: str) -> Stream:
    spelled = {name.replace("_", "-"): value for name, value in metadata.items()}
    return cast(Stream, SimpleNamespace(metadata=spelled, has_begun=True))


async def answer(method: Method, request: Message, asked: Stream) -> None:
    if method.streams:
        raise asyncio.CancelledError
    if method.name.startswith("Sandbox"):
        raise GRPCError(Status.UNIMPLEMENTED)


def method(name: str) -> Method:
    return next(each for each in METHODS if each.name == name)


async def test_what_was_answered_is_noted_with_who_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answered"
    monkeypatch.setenv(VARIABLE, str(path))
    noting = noting_answers(answer)
    for kind in ("1", "3", "1"):
        await noting(method("BlobGet"), Empty(), stream(x_modal_client_type=kind))
    await noting(method("BlobCreate"), Empty(), stream())
    with pytest.raises(GRPCError):
        await noting(method("SandboxCreate"), Empty(), stream(x_modal_client_type="1"))
    assert path.read_text().splitlines() == ["client BlobGet", "container BlobGet"]


async def test_a_stream_that_is_not_heard_to_its_end_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answered"
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(asyncio.CancelledError):
        await noting_answers(answer)(method("AppGetLogs"), Empty(), stream(x_modal_client_type="1"))
    assert path.read_text() == "client AppGetLogs\n"


def test_nothing_is_in_the_way_when_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    same: Any = answer
    assert noting_answers(answer) is same
