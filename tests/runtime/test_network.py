"""The containers' network: ready ahead, apart from the host's, gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from jiffy.runtime.namespaces import run
from jiffy.runtime.network import GATEWAY, ContainerNetwork, _Ahead
from tests.inventory import await_nothing_about

pytestmark = pytest.mark.root


@pytest.fixture
async def network() -> AsyncIterator[ContainerNetwork]:
    opened = ContainerNetwork("test01")
    await opened.open()
    yield opened
    await opened.close()
    assert await_nothing_about("test01") == []


async def inside(namespace: str, *command: str) -> str:
    return await run("nsenter", f"--net={namespace}", *command)


async def test_every_container_has_an_address_of_its_own_on_eth0(network: ContainerNetwork) -> None:
    interfaces = [await network.take() for _ in range(6)]
    addresses = {interface.address for interface in interfaces}
    assert len(addresses) == 6
    for interface in interfaces:
        assert f"{interface.address}/16" in await inside(interface.namespace, "ip", "-4", "addr", "show", "eth0")
        await network.release(interface)


async def test_containers_reach_a_listener_at_the_gateway(network: ContainerNetwork) -> None:
    interface = await network.take()
    with network.listen(9900) as listener:
        listener.settimeout(5)
        accepted = asyncio.ensure_future(asyncio.to_thread(listener.accept))
        await inside(interface.namespace, "bash", "-c", f"exec 3<>/dev/tcp/{GATEWAY}/9900")
        connection, (address, _) = await accepted
        connection.close()
    assert address == interface.address
    await network.release(interface)


async def test_a_connection_does_not_notice_that_other_containers_end(network: ContainerNetwork) -> None:
    """The gateway keeps the address by which containers know it on the bridge."""
    assert network._router is not None
    interfaces = [await network.take() for _ in range(8)]
    kept, others = interfaces[0], interfaces[1:]
    with network.listen(9900) as listener:
        listener.settimeout(5)
        script = f"exec 3<>/dev/tcp/{GATEWAY}/9900; read line <&3; echo answer >&3"
        speaking = asyncio.ensure_future(inside(kept.namespace, "bash", "-c", script))
        connection, _ = await asyncio.to_thread(listener.accept)
        for other in others:
            await network.release(other)
        with connection:
            connection.settimeout(1)
            connection.sendall(b"hello\n")
            assert await asyncio.to_thread(connection.recv, 10) == b"answer\n"
        await speaking
    address = await inside(network._router.path, "ip", "-json", "link", "show", "bridge")
    assert json.loads(address)[0]["address"] == "02:6a:69:66:66:79"
    await network.release(kept)


async def test_the_gateways_listener_is_not_on_the_host(network: ContainerNetwork) -> None:
    with network.listen(9900) as listener:
        listener.settimeout(0.3)
        with contextlib.suppress(OSError):
            socket.create_connection((GATEWAY, 9900), timeout=0.3).close()
        with pytest.raises(TimeoutError):
            listener.accept()


async def test_two_instances_share_a_host(network: ContainerNetwork) -> None:
    other = ContainerNetwork("test02")
    await other.open()
    try:
        first, second = await network.take(), await other.take()
        assert first.address == second.address
        await network.release(first)
        await other.release(second)
    finally:
        await other.close()


async def test_what_a_killed_predecessor_left_is_taken_over(network: ContainerNetwork) -> None:
    """As if its process had died: the host's side is still there when the next one opens."""
    successor = ContainerNetwork("test01")
    await successor.open()
    interface = await successor.take()
    assert interface.address
    await successor.close()


FORWARDING = """
import asyncio
from pathlib import Path
from jiffy.runtime.network import ContainerNetwork

async def main():
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # it may begin as the host's
    read = Path("/proc/sys/net/ipv4/ip_forward").read_text
    networks = [ContainerNetwork("test03"), ContainerNetwork("test04")]
    for network in networks:
        await network.open()
        assert read() == "1\\n"
    for network in networks:
        assert read() == "1\\n"
        await network.close()
    assert read() == "0\\n"

asyncio.run(main())
"""


def test_forwarding_is_as_it_was_after_the_last_one() -> None:
    """In a network namespace of its own, as this host's other servers forward too."""
    command = ["unshare", "--net", sys.executable, "-c", FORWARDING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert await_nothing_about("test03", "test04") == []


def test_as_many_are_ready_as_were_taken_at_once_lately() -> None:
    ahead = _Ahead()
    assert ahead.wanted == 4
    for number in range(30):
        ahead.note(1000 + number / 100)
    assert ahead.wanted == 30
    for number in range(10):
        ahead.note(1100 + number * 5)
    assert ahead.wanted == 30, "it may come again"
    for number in range(500):
        ahead.note(1300 + number / 1000)
    assert ahead.wanted == 128
    ahead.note(2000)
    assert ahead.wanted == 4, "it has not come again for long"


async def test_after_many_at_once_as_many_are_ready(network: ContainerNetwork) -> None:
    taken = await asyncio.gather(*(network.take() for _ in range(12)))
    assert len({interface.address for interface in taken}) == 12
    deadline = time.monotonic() + 10
    while len(network._namespaces) < 24:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    for interface in taken:
        await network.release(interface)
