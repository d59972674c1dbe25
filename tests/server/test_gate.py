"""The gate: workers from elsewhere come in by TLS, with a token, and their containers are told apart."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from jiffy.datadir import DataDirectory
from jiffy.errors import UnauthenticatedError
from jiffy.server.certificates import ensure_certificate
from jiffy.server.container_sockets import read_name
from jiffy.tunnels import Preface, dial
from tests.server.gates import TOKEN, GateUnderTest, open_gate


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[GateUnderTest]:
    data = DataDirectory(tmp_path / "a-data-directory-whose-path-is-longer-than-that-of-a-socket-may-be" / ("x" * 40))
    data.create()
    async with open_gate(data) as opened:
        yield opened


async def speak(gate: GateUnderTest, preface: Preface) -> bytes:
    reader, writer = await dial(gate.address)
    writer.write(preface.encode() + b"hello\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_http_is_passed_on(gate: GateUnderTest) -> None:
    async with aiohttp.ClientSession() as session:
        url, ssl_check = f"{gate.address.url}/relay", aiohttp.Fingerprint(gate.address.pin)
        for token, status in ((TOKEN, 200), ("another", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(url, headers=headers, ssl=ssl_check) as answer:
                assert answer.status == status


async def test_the_server_is_told_which_container_speaks(gate: GateUnderTest) -> None:
    async with await gate.listen_for_containers():
        for address in ("172.21.0.2", "172.21.0.3"):
            answer = await speak(gate, Preface(TOKEN, "wo-1", address, "grpc", 9901))
            assert json.loads(answer) == ["wo-1", address, 9901, "hello\n"]


async def test_a_container_waits_for_a_server_that_is_on_its_way_up(gate: GateUnderTest) -> None:
    job = asyncio.ensure_future(speak(gate, Preface(TOKEN, "wo-1", "172.21.0.2", "grpc", 9901)))
    await asyncio.sleep(0.3)
    assert not job.done()
    async with await gate.listen_for_containers():
        assert b"hello" in await job


async def test_without_a_good_token_nothing_is_carried(gate: GateUnderTest) -> None:
    async with await gate.listen_for_containers():
        assert await speak(gate, Preface("wk-1:guessed", "wo-1", "172.21.0.2", "grpc", 9901)) == b""


@pytest.fixture
async def beside(gate: GateUnderTest, tmp_path: Path) -> AsyncIterator[GateUnderTest]:
    """The gate of a server that follows the one behind the other gate."""
    data = DataDirectory(tmp_path / "beside")
    data.create()
    data.certificate.symlink_to(gate.data.certificate)
    async with open_gate(data) as opened:
        data.address.write_text(json.dumps({"http_url": "http://127.0.0.1:1", "leader": gate.address.url}))
        yield opened


async def test_while_another_server_leads_everything_goes_to_its_gate(
    gate: GateUnderTest, beside: GateUnderTest
) -> None:
    async with await gate.listen_for_containers():
        answer = await speak(beside, Preface(TOKEN, "wo-1", "172.21.0.2", "grpc", 9901))
    assert json.loads(answer) == ["wo-1", "172.21.0.2", 9901, "hello\n"]
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        check = aiohttp.Fingerprint(beside.address.pin)
        async with session.get(f"{beside.address.url}/relay", headers=headers, ssl=check) as given:
            assert await given.text() == "welcome"


async def test_a_container_waits_until_a_server_leads(gate: GateUnderTest, beside: GateUnderTest) -> None:
    found = beside.data.address.read_text()
    beside.data.address.write_text(json.dumps({"http_url": "http://127.0.0.1:1", "leader": ""}))
    async with await gate.listen_for_containers():
        job = asyncio.ensure_future(speak(beside, Preface(TOKEN, "wo-1", "172.21.0.2", "grpc", 9901)))
        await asyncio.sleep(0.3)
        assert not job.done()
        beside.data.address.write_text(found)
        assert b"hello" in await job


async def test_a_leader_with_another_certificate_is_not_believed(beside: GateUnderTest, tmp_path: Path) -> None:
    stranger = DataDirectory(tmp_path / "stranger")
    stranger.create()
    async with open_gate(stranger) as other, await other.listen_for_containers():
        beside.data.address.write_text(json.dumps({"http_url": "", "leader": other.address.url}))
        assert await speak(beside, Preface(TOKEN, "wo-1", "172.21.0.2", "grpc", 9901)) == b""


async def test_what_is_not_encrypted_is_refused(gate: GateUnderTest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.address.port)
    writer.write(b"GET /relay HTTP/1.1\r\n\r\n")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        assert (await asyncio.wait_for(reader.readexactly(12), 5))[:5] == b"HTTP/"
    writer.close()


async def test_old_protocols_of_encryption_are_refused(gate: GateUnderTest) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", gate.address.port, ssl=context)


def test_the_certificate_stays_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "gate.pem"
    assert ensure_certificate(path) == ensure_certificate(path)
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name", [b"", b"/run/other.sock", b"\0jiffy/wo-1", b"\0other/wo/1/2/3", b"\0jiffy/wo/1/x/3", b"\xff"]
)
def test_a_connection_that_does_not_say_who_speaks_is_nobodys(name: bytes) -> None:
    with pytest.raises(UnauthenticatedError):
        read_name(name)
