"""What containers send reaches the server's gate, from who they are."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jiffy.addresses import Address, pinned, read_address
from jiffy.datadir import DataDirectory
from jiffy.worker.relay import Relay
from tests.server.gates import TOKEN, GateUnderTest, open_gate
from tests.servers import free_port


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[GateUnderTest]:
    data = DataDirectory(tmp_path / "data")
    data.create()
    async with open_gate(data) as opened:
        yield opened


@asynccontextmanager
async def relaying(*addresses: Address) -> AsyncIterator[int]:
    """The port where containers speak. The gate is at the first address, then at the next."""
    listener = socket.create_server(("127.0.0.1", 0))
    rest = list(addresses)
    relay = Relay("wo-1", 9901, lambda: rest.pop(0) if len(rest) > 1 else rest[0], lambda: TOKEN)
    await relay.open({"grpc": listener})
    yield int(listener.getsockname()[1])
    await relay.close()


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_a_container_is_known_by_its_address(gate: GateUnderTest) -> None:
    async with await gate.listen_for_containers(), relaying(gate.address) as port:
        assert json.loads(await ask(port)) == ["wo-1", "127.0.0.1", 9901, "hello\n"]


async def test_while_no_server_answers_containers_wait(gate: GateUnderTest) -> None:
    nowhere = read_address(f"https://127.0.0.1:{free_port()}")
    async with await gate.listen_for_containers(), relaying(nowhere, gate.address) as port:
        assert b"hello" in await ask(port)


async def test_nothing_is_sent_to_somebody_else(gate: GateUnderTest) -> None:
    stranger = read_address(pinned(gate.address.url, "0" * 64))
    async with await gate.listen_for_containers(), relaying(stranger) as port:
        assert await ask(port) == b""
