"""The few requests to the kernel's network (rtnetlink) that the start of a container takes.

`ip` does the same, in a process for each namespace: that alone takes longer than the rest of a start. Numbers are of
linux/rtnetlink.h, if_link.h and if_addr.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from typing import Final

from jiffy.errors import JiffyError

_NEWLINK: Final = 16
_NEWADDR: Final = 20
_NEWROUTE: Final = 24
_ERROR: Final = 2

_REQUEST_AND_ACKNOWLEDGE: Final = 0x1 | 0x4
_CREATE: Final = 0x200 | 0x400

_UP: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_NET_NS_FD: Final = 28
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_INFO_SLAVE_KIND: Final = 4
_INFO_SLAVE_DATA: Final = 5
_VETH_PEER: Final = 1
_PORT_ISOLATED: Final = 33
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_RTA_GATEWAY: Final = 5
_MAIN_TABLE: Final = 254
_BOOT_PROTOCOL: Final = 3
_UNICAST: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_CODE: Final = struct.Struct("=i")
_NUMBER: Final = struct.Struct("=I")
_ANSWER_BYTES: Final = 65536


class Netlink:
    """Requests in the network namespace in which this was made, whoever uses it. Each raises JiffyError when the kernel
    refuses it. Not for several threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def add_veth(self, name: str, peer: str, namespace: int, master: int) -> None:
        """A pair: one end here, up, a port of the bridge with the index `master`; the other in the namespace that a
        descriptor leads to."""
        other = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer) + _number(_IFLA_NET_NS_FD, namespace)
        info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        body = _LINK.pack(0, 0, 0, _UP, _UP) + _text(_IFLA_IFNAME, name) + _number(_IFLA_MASTER, master)
        self._ask(_NEWLINK, _CREATE, body + _attribute(_IFLA_LINKINFO, info), f"make {name}")

    def isolate(self, name: str) -> None:
        """A port of a bridge exchanges nothing with others that are isolated too."""
        data = _attribute(_PORT_ISOLATED, b"\x01")
        info = _text(_INFO_SLAVE_KIND, "bridge") + _attribute(_INFO_SLAVE_DATA, data)
        body = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name) + _attribute(_IFLA_LINKINFO, info)
        self._ask(_NEWLINK, 0, body, f"isolate {name}")

    def set_up(self, index: int) -> None:
        self._ask(_NEWLINK, 0, _LINK.pack(0, 0, index, _UP, _UP), f"turn on interface {index}")

    def add_address(self, index: int, address: str, prefix: int) -> None:
        packed = ipaddress.IPv4Address(address).packed
        body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._ask(_NEWADDR, _CREATE, body, f"give interface {index} the address {address}")

    def add_default_route(self, gateway: str) -> None:
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _MAIN_TABLE, _BOOT_PROTOCOL, 0, _UNICAST, 0)
        body += _attribute(_RTA_GATEWAY, ipaddress.IPv4Address(gateway).packed)
        self._ask(_NEWROUTE, _CREATE, body, f"lead to the world by {gateway}")

    def _ask(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_AND_ACKNOWLEDGE | flags, self._sequence, 0)
        self._socket.send(header + body)
        code = self._acknowledged()
        if code:
            name = errno.errorcode.get(code, str(code))
            raise JiffyError(f"the kernel does not {what}", why=f"{os.strerror(code)} ({name})")

    def _acknowledged(self) -> int:
        """The error number of the answer to the last request; 0 for none."""
        while True:
            answer = self._socket.recv(_ANSWER_BYTES)
            _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
            if kind == _ERROR and sequence == self._sequence:
                (code,) = _CODE.unpack_from(answer, _HEADER.size)
                return -int(code)


def _attribute(kind: int, data: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(-length % 4)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return _attribute(kind, _NUMBER.pack(number))
