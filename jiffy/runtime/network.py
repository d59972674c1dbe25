"""The network of a host's containers.

    container eth0 --- bridge 172.21.0.1 (router namespace) --- uplink /30 --- host --- world

The bridge is in a network namespace of its own, one per instance: several instances share a host, each with the same
addresses inside, and nothing of the host listens where containers are. Traffic to the world is masqueraded twice, in the
router and in the host. Containers reach neither each other, nor the host, nor link-local addresses such as a cloud's
metadata service.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import ExhaustedError, JiffyError
from jiffy.runtime.namespaces import NetworkNamespace, run
from jiffy.runtime.netlink import Netlink
from jiffy.runtime.resolv import nameservers

logger = logging.getLogger(__name__)

GATEWAY: Final = "172.21.0.1"
_CONTAINERS: Final = ipaddress.ip_network("172.21.0.0/16")
_UPLINKS: Final = ipaddress.ip_network("100.64.0.0/10")
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_LEAST_AHEAD: Final = 4
_MOST_AHEAD: Final = 128
_BURST_SECONDS: Final = 2.0
_REMEMBERED_SECONDS: Final = 600.0
_CONNECT_SECONDS: Final = 3.0
_ETHERNET: Final = "eth0"
_LOOPBACK: Final = 1
_MARK: Final = "forwarding_was_off"
_BRIDGE_ADDRESS: Final = "02:6a:69:66:66:79"
"""A bridge without one of its own has the lowest of its ports', another one whenever that port goes: containers then speak
to an address that nobody has, for seconds."""

_ROUTER_RULES: Final = """
table ip jiffy {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ip daddr 169.254.0.0/16 drop
        iifname "bridge" oifname "uplink" accept
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname "uplink" masquerade
    }
}
"""


@dataclass(frozen=True, slots=True)
class Interface:
    """A container's place in the network: the path of its namespace, its IPv4 address there on eth0."""

    namespace: str
    address: str


class _Ahead:
    """How many interfaces are to be ready: as many as were taken at once lately. One costs 150 KB of the kernel's memory,
    and three times as much time while containers start."""

    def __init__(self) -> None:
        self.wanted = _LEAST_AHEAD
        self._burst = 0
        self._taken_at = self._most_at = -_REMEMBERED_SECONDS

    @property
    def calm_at(self) -> float:
        """When the burst is over, if nothing is taken until then."""
        return self._taken_at + _BURST_SECONDS

    def note(self, now: float) -> None:
        """One is taken."""
        if now - self._taken_at > _BURST_SECONDS:
            self._burst = 0
        self._burst += 1
        self._taken_at = now
        most = max(_LEAST_AHEAD, min(_MOST_AHEAD, self._burst))
        if most >= self.wanted or now - self._most_at > _REMEMBERED_SECONDS:
            self.wanted, self._most_at = most, now


class ContainerNetwork:
    """The network of one instance, from open to close."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._router: NetworkNamespace | None = None
        self._namespaces: dict[str, NetworkNamespace] = {}
        self._addresses = _addresses_in_turn()
        self._taken: set[str] = set()
        self._serial = itertools.count()
        self._ready: asyncio.Queue[Interface] = asyncio.Queue()
        self._filler: asyncio.Task[None] | None = None
        self._netlink: Netlink | None = None
        self._bridge = 0
        self._ahead = _Ahead()
        self._was_taken = asyncio.Event()

    def listen(self, port: int) -> socket.socket:
        """A listener at the gateway, where only containers reach it."""
        assert self._router is not None
        return self._router.listen(GATEWAY, port)

    async def connect(self, address: str, port: int) -> socket.socket:
        """To a port of a container, as from the gateway; OSError when nobody listens there."""
        assert self._router is not None
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        connection = self._router.inside(lambda: socket.socket(socket.AF_INET, kind))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except BaseException:
            connection.close()
            raise
        return connection

    async def open(self) -> None:
        """Make the bridge and its way to the world; removes what a killed predecessor left."""
        await sweep(self._instance)
        self._router = NetworkNamespace(forwards=True)
        host, router = await _choose_uplink(self._instance)
        link = _link_name(self._instance)
        await run("ip", "link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", self._router.path)
        await run("ip", "-batch", "-", text=f"addr add {host}/30 dev {link}\nlink set {link} up")
        await self._router.configure(
            [
                "link set lo up",
                f"addr add {router}/30 dev uplink",
                "link set uplink up",
                f"route add default via {host}",
                f"link add bridge address {_BRIDGE_ADDRESS} type bridge forward_delay 0 stp_state 0",
                f"addr add {GATEWAY}/{_CONTAINERS.prefixlen} dev bridge",
                "link set bridge up",
            ]
        )
        await self._router.filter(_ROUTER_RULES)
        await _connect_to_world(self._instance, router)
        self._netlink, self._bridge = self._router.inside(lambda: (Netlink(), socket.if_nametoindex("bridge")))
        self._filler = asyncio.ensure_future(self._fill())

    async def close(self) -> None:
        if self._filler is not None:
            self._filler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._filler
        for namespace in self._namespaces.values():
            namespace.close()
        self._namespaces.clear()
        if self._netlink is not None:
            self._netlink.close()
        if self._router is not None:
            self._router.close()
        await sweep(self._instance)

    async def take(self) -> Interface:
        """An interface that was prepared ahead, or as soon as one is ready."""
        self._ahead.note(time.monotonic())
        self._was_taken.set()
        return await self._ready.get()

    async def release(self, interface: Interface) -> None:
        """End an interface; its address may be used again, after all others."""
        self._namespaces.pop(interface.address).close()
        self._taken.discard(interface.address)

    async def _fill(self) -> None:
        while True:
            while self._ready.qsize() >= self._ahead.wanted:
                self._was_taken.clear()
                await self._was_taken.wait()
            await self._wait_for_calm()
            address = self._next_address()
            try:
                namespace = await asyncio.to_thread(self._prepare, address, f"port{next(self._serial)}")
            except (JiffyError, OSError) as error:
                logger.error("cannot prepare an interface: %s", error)
                self._taken.discard(address)
                await asyncio.sleep(1)
                continue
            self._namespaces[address] = namespace
            self._ready.put_nowait(Interface(namespace.path, address))

    async def _wait_for_calm(self) -> None:
        """While containers start that have their interfaces, none is made for the next ones: it would take their time."""
        while self._ready.qsize() >= _LEAST_AHEAD and (rest := self._ahead.calm_at - time.monotonic()) > 0:
            self._was_taken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._was_taken.wait(), rest)

    def _prepare(self, address: str, port: str) -> NetworkNamespace:
        assert self._netlink is not None
        namespace = NetworkNamespace()
        try:
            self._netlink.add_veth(port, _ETHERNET, namespace.descriptor, self._bridge)
            self._netlink.isolate(port)
            namespace.inside(lambda: _configure(address))
        except BaseException:
            namespace.close()
            raise
        return namespace

    def _next_address(self) -> str:
        for address in itertools.islice(self._addresses, _CONTAINERS.num_addresses):
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise ExhaustedError("no address is left for a container")


def _configure(address: str) -> None:
    """What a container finds in its namespace."""
    netlink = Netlink()
    try:
        index = socket.if_nametoindex(_ETHERNET)
        netlink.set_up(_LOOPBACK)
        netlink.add_address(index, address, _CONTAINERS.prefixlen)
        netlink.set_up(index)
        netlink.add_default_route(GATEWAY)
    finally:
        netlink.close()


async def sweep(instance: str) -> None:
    """Remove what an instance has on the host: its uplink, its rules, and forwarding if jiffy turned it on."""
    with contextlib.suppress(JiffyError):
        await run("ip", "link", "del", _link_name(instance))
    tables = await _tables()
    mine = _table_name(instance)
    if mine not in tables:
        return
    was_off = await _has_mark(mine)
    await run("nft", "delete", "table", "ip", mine)
    if was_off and not any(table.startswith("jiffy_") for table in tables if table != mine):
        _FORWARDING.write_text("0")


async def _connect_to_world(instance: str, router: str) -> None:
    others = [table for table in await _tables() if table.startswith("jiffy_")]
    marked = _FORWARDING.read_text().strip() == "0" or any([await _has_mark(table) for table in others])
    await run("nft", "-f", "-", text=_host_rules(instance, router, marked))
    _FORWARDING.write_text("1")


def _host_rules(instance: str, router: str, marked: bool) -> str:
    link = _link_name(instance)
    servers = [server for server in nameservers() if ":" not in server]
    resolvers = f"ip daddr {{ {', '.join(servers)} }} meta l4proto {{ tcp, udp }} th dport 53 accept" if servers else ""
    return f"""
table ip {_table_name(instance)} {{
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname "{link}" ct state established,related accept
        iifname "{link}" {resolvers or "ct state invalid drop"}
        iifname "{link}" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{link}" ip daddr 169.254.0.0/16 drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {router} oifname != "{link}" masquerade
    }}
    {f"chain {_MARK} {{ }}" if marked else ""}
}}
"""


async def _tables() -> list[str]:
    listing = json.loads(await run("nft", "--json", "list", "tables"))["nftables"]
    return [entry["table"]["name"] for entry in listing if entry.get("table", {}).get("family") == "ip"]


async def _has_mark(table: str) -> bool:
    try:
        return _MARK in await run("nft", "list", "table", "ip", table)
    except JiffyError:
        return False


async def _choose_uplink(instance: str) -> tuple[str, str]:
    """The host's and the router's address of a /30 that nobody uses; the instance's name says where to look first."""
    used = {
        ipaddress.ip_address(address["local"])
        for link in json.loads(await run("ip", "-json", "-4", "addr"))
        for address in link.get("addr_info", [])
    }
    blocks = _UPLINKS.num_addresses // 4
    first = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:4]) % blocks
    for number in range(256):
        base = _UPLINKS[(first + number) % blocks * 4]
        if base + 1 not in used and base + 2 not in used:
            return str(base + 1), str(base + 2)
    raise ExhaustedError("no addresses are free for the containers' uplink", why="256 ranges in a row are in use")


def _addresses_in_turn() -> Iterator[str]:
    first, last = 2, _CONTAINERS.num_addresses - 2
    return (str(_CONTAINERS[number]) for number in itertools.cycle(range(first, last + 1)))


def _link_name(instance: str) -> str:
    return f"jiffy-{instance}"


def _table_name(instance: str) -> str:
    return f"jiffy_{instance}"
