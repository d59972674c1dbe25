"""What a server is told when it is started, passed on from the command to the process that serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from jiffy.server.offers import OFFERS

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`mirror` is the address of a bucket that is to have all objects too, empty for none; `offers` names what of this
    host's configuration the steps of builds may use; `registry_mirrors` are addresses that are asked in place of a
    registry's host."""

    mirror: str = ""
    offers: tuple[str, ...] = ()
    registry_mirrors: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> tuple[str, ...]:
        """As server_options reads them."""
        offers = [word for name in self.offers for word in ("--offer", name)]
        pairs = [f"{host}={address}" for host, address in self.registry_mirrors.items()]
        return ("--mirror", self.mirror, *offers, *[word for pair in pairs for word in ("--registry-mirror", pair)])


def server_options(command: F) -> F:
    """Adds --mirror, --offer and --registry-mirror."""
    mirror = click.option(
        "--mirror", default="", help="A bucket that is to have all objects too, for workers: s3://bucket/prefix ..."
    )
    offer = click.option(
        "--offer",
        "offers",
        multiple=True,
        envvar="JIFFY_OFFER",
        type=click.Choice([*OFFERS, "all"]),
        help="What of this host's configuration the steps of builds may use; no image keeps it.",
    )
    registries = click.option(
        "--registry-mirror",
        "registry_mirrors",
        multiple=True,
        envvar="JIFFY_REGISTRY_MIRROR",
        callback=_read_mirrors,
        metavar="HOST=URL",
        help="Where to pull images of a registry from instead: docker.io=http://127.0.0.1:5000.",
    )
    return mirror(offer(registries(command)))


def _read_mirrors(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    mirrors = {}
    for pair in pairs:
        host, _, address = pair.partition("=")
        if not host or not address.startswith(("http://", "https://")):
            raise click.BadParameter(f"{pair!r} is no HOST=URL", context, option)
        mirrors[host] = address
    return mirrors
