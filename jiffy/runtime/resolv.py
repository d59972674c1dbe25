"""Name resolution inside containers: the host's, unless that is on the host's loopback."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

_HOST: Final = Path("/etc/resolv.conf")
_BEHIND_STUB: Final = Path("/run/systemd/resolve/resolv.conf")
_PUBLIC: Final = "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"


def resolver_file(host: Path = _HOST, behind_stub: Path = _BEHIND_STUB) -> str:
    """What /etc/resolv.conf holds in a container."""
    for path in (host, behind_stub):
        if path.exists():
            text = path.read_text()
            servers = _servers(text)
            if servers and not any(ipaddress.ip_address(server).is_loopback for server in servers):
                return text
    return _PUBLIC


def nameservers() -> list[str]:
    """The addresses that containers ask."""
    return _servers(resolver_file())


def hosts_file(hostname: str, address: str) -> str:
    """What /etc/hosts holds in a container."""
    return f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{hostname}\n"


def _servers(text: str) -> list[str]:
    words = [line.split() for line in text.splitlines()]
    return [word[1].partition("%")[0] for word in words if len(word) > 1 and word[0] == "nameserver"]
