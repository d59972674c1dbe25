"""What of this host's own configuration the steps of builds may use: certificates, package indexes, proxies. It is given to
their containers beside the image, and lands in none."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.tree import Tree

_FOLDER: Final = "/run/jiffy"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_CERTIFICATE_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
)
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_PIP_FILES: Final = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
_PIP_ADDRESSES: Final = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy")
_APT_SOURCES: Final = Path("/etc/apt/sources.list.d")
_APT_FILE: Final = "/etc/apt/apt.conf.d/90jiffy-build"


@dataclass(frozen=True, slots=True)
class Offer:
    """Variables, and files by their paths in a container. `release_files` are for images of one `release` only, in place of
    their own sources of packages."""

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    release: str = ""
    release_files: Mapping[str, bytes] = field(default_factory=dict)

    def files_for(self, tree: Tree, release: str) -> dict[str, bytes]:
        """What a step on a tree gets to see."""
        if not release or release != self.release:
            return dict(self.files)
        own = [entry.path for entry in (*tree.below(b"/etc/apt/sources.list"), *tree.below(os.fsencode(_APT_SOURCES)))]
        hidden = {os.fsdecode(path): b"" for path in own if path.endswith((b".list", b".sources"))}
        return {**self.files, **hidden, **self.release_files}


def make_offer(names: Iterable[str]) -> Offer:
    """Of the things in OFFERS, or all of them for `all`. InvalidError for a name that is none."""
    wanted = set(names)
    if unknown := wanted - {*OFFERS, "all"}:
        raise InvalidError(f"cannot offer {min(unknown)} to builds", hint=f"there are {', '.join(OFFERS)}, and all")
    made = [make() for name, make in OFFERS.items() if name in wanted or "all" in wanted]
    variables = {name: value for offer in made for name, value in offer.variables.items()}
    files = {path: data for offer in made for path, data in offer.files.items()}
    releases = [offer for offer in made if offer.release]
    release, release_files = (releases[0].release, releases[0].release_files) if releases else ("", {})
    return Offer(variables, files, release, release_files)


def _offer_certificates() -> Offer:
    """The authorities that this host trusts: a proxy on its way to the world may have one of its own."""
    path = Path(os.environ.get("SSL_CERT_FILE", _CERTIFICATES))
    if not path.is_file():
        return Offer()
    place = f"{_FOLDER}/certificates.pem"
    apt = f'Acquire::https::CAInfo "{place}";\n'
    return Offer(dict.fromkeys(_CERTIFICATE_VARIABLES, place), {place: path.read_bytes(), _APT_FILE: apt.encode()})


def _offer_pip() -> Offer:
    """Where this host's pip and uv find packages; folders of this host are left out."""
    found = {name: value for name, value in _read_pip().items() if value}
    variables = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in found.items()}
    if "index-url" in found:
        variables["UV_DEFAULT_INDEX"] = found["index-url"]
    if "extra-index-url" in found:
        variables["UV_INDEX"] = found["extra-index-url"]
    return Offer(variables)


def _read_pip() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (*_PIP_FILES, os.environ.get("PIP_CONFIG_FILE", "")):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(path).expanduser() if path else [])
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update((name, parser[section][name]) for name in _PIP_ADDRESSES if name in parser[section])
    for name in _PIP_ADDRESSES:
        found[name] = os.environ.get(f"PIP_{name.upper().replace('-', '_')}", found.get(name, ""))
    return {name: " ".join(word for word in value.split() if _leaves_host(word, name)) for name, value in found.items()}


def _leaves_host(address: str, name: str) -> bool:
    return name == "trusted-host" or address.startswith(("http://", "https://"))


def _offer_proxies() -> Offer:
    names = [name for each in _PROXY_VARIABLES for name in (each, each.upper())]
    return Offer({name: os.environ[name] for name in names if os.environ.get(name)})


def _offer_apt() -> Offer:
    """Where this host's apt finds packages, for images of the same release of the same distribution. Their own sources are
    not seen meanwhile."""
    release = read_release(_read(Path("/etc/os-release")).decode(errors="replace"))
    found = {path: _read(path) for path in (Path("/etc/apt/sources.list"), *sorted(_APT_SOURCES.glob("*.*")))}
    files = {
        f"{_APT_SOURCES}/jiffy-{number}{path.suffix}": data
        for number, (path, data) in enumerate(found.items())
        if path.suffix in (".list", ".sources") and data.strip()
    }
    return Offer(release=release, release_files=files) if release and files else Offer()


def read_release(text: str) -> str:
    """`debian bookworm` and the like from the text of /etc/os-release; empty where it does not tell."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    names = [fields.get(name, "").strip("\"'") for name in ("ID", "VERSION_CODENAME")]
    return " ".join(names) if all(names) else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


OFFERS: Final[Mapping[str, Callable[[], Offer]]] = {
    "certificates": _offer_certificates,
    "pip": _offer_pip,
    "proxies": _offer_proxies,
    "apt": _offer_apt,
}
