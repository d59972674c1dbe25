"""A gate before a stand-in of the server: it answers HTTP, and its sockets for containers say who speaks."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.test_utils import TestServer

from jiffy.addresses import Address, pinned, read_address
from jiffy.datadir import DataDirectory
from jiffy.server.certificates import ensure_certificate, server_context
from jiffy.server.container_sockets import read_name
from jiffy.server.gate import Gate
from jiffy.unix_sockets import listen_at

TOKEN = "wk-1:secret"


@dataclass
class GateUnderTest:
    data: DataDirectory
    address: Address
    url: str

    async def listen_for_containers(self) -> asyncio.Server:
        """Answers each with its worker, its address, and what it said first."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = await reader.readline()
            who = read_name(writer.get_extra_info("peername"))
            writer.write(json.dumps([*who, said.decode()]).encode() + b"\n")
            await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(answer, sock=listen_at(self.data.container_socket("grpc")))


@asynccontextmanager
async def open_gate(data: DataDirectory) -> AsyncIterator[GateUnderTest]:
    async def check(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        return web.Response(text="welcome" if good else "no", status=200 if good else 401)

    application = web.Application()
    application.router.add_get("/relay", check)
    pin = ensure_certificate(data.certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    url = pinned(f"https://127.0.0.1:{listener.getsockname()[1]}", pin)
    async with TestServer(application) as server:
        data.address.write_text(json.dumps({"http_url": str(server.make_url("")).rstrip("/")}))
        gate = asyncio.ensure_future(Gate(data).serve(listener, server_context(data.certificate)))
        yield GateUnderTest(data, read_address(url), url)
        gate.cancel()
        await asyncio.wait([gate])
