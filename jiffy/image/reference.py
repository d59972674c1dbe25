"""References of images in registries: [host[:port]/]repository[:tag][@digest], with the defaults that people expect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from jiffy.errors import InvalidError

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_ADDRESS: Final = "registry-1.docker.io"
_HUB_NAMES: Final = (DOCKER_HUB, "index.docker.io", _DOCKER_HUB_ADDRESS)
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_HOST: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """`tag` and `digest` (sha256:...) may be empty, not both."""

    host: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag

    @property
    def address(self) -> str:
        """Host and port of the registry."""
        return _DOCKER_HUB_ADDRESS if self.host == DOCKER_HUB else self.host

    @property
    def is_local(self) -> bool:
        """Whether it is on this host, where plain HTTP is right."""
        host = self.host.rpartition(":")[0] if self.host.rpartition(":")[2].isdigit() else self.host
        return host in ("localhost", "[::1]") or host.startswith("127.")

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """InvalidError when it is none."""
    rest, _, digest = text.partition("@")
    if digest and not _DIGEST.fullmatch(digest):
        raise InvalidError(f"{text!r} names no image", why=f"{digest!r} is not sha256: and 64 hex digits")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = first
    else:
        host, path = DOCKER_HUB, rest
    path, _, tag = path.partition(":")
    host = DOCKER_HUB if host in _HUB_NAMES else host
    if host == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    if not _REPOSITORY.fullmatch(path) or len(path) > _LONGEST or not _HOST.fullmatch(host):
        raise InvalidError(f"{text!r} names no image", hint="write [HOST/]NAME[:TAG], in small letters")
    if tag and not _TAG.fullmatch(tag):
        raise InvalidError(f"{text!r} names no image", why=f"{tag!r} is no tag")
    return Reference(host, path, tag or ("" if digest else "latest"), digest)
