"""What a server is told when it is started, passed on from the command to the process that serves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import click

from jiffy.server.offers import OFFERS

PYTHON_BUILDS: Final = "https://github.com/astral-sh/python-build-standalone/releases/download"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`mirror` is the address of a bucket that is to have all objects too, empty for none; `offers` names what of this
    host's configuration the steps of builds may use; `registry_mirrors` are addresses that are asked in place of a
    registry's host, `python_builds` the address of the Pythons for `add_python=`."""

    mirror: str = ""
    offers: tuple[str, ...] = ()
    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    python_builds: str = PYTHON_BUILDS

    def arguments(self) -> tuple[str, ...]:
        """As server_options reads them."""
        offers = [word for name in self.offers for word in ("--offer", name)]
        pairs = [f"{host}={address}" for host, address in self.registry_mirrors.items()]
        mirrors = [word for pair in pairs for word in ("--registry-mirror", pair)]
        return ("--mirror", self.mirror, "--python-builds", self.python_builds, *offers, *mirrors)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --mirror, --offer, --registry-mirror and --python-builds, given to the command as `options: ServerOptions`."""

    @functools.wraps(command)
    def run(
        *arguments: Any,
        mirror: str,
        offers: tuple[str, ...],
        registry_mirrors: dict[str, str],
        python_builds: str,
        **others: Any,
    ) -> Any:
        options = ServerOptions(mirror, offers, registry_mirrors, python_builds)
        return command(*arguments, options=options, **others)

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
        callback=read_mirrors,
        metavar="HOST=URL",
        help="Where to pull images of a registry from instead: docker.io=http://127.0.0.1:5000.",
    )
    pythons = click.option(
        "--python-builds",
        default=PYTHON_BUILDS,
        envvar="JIFFY_PYTHON_BUILDS",
        metavar="URL",
        help="Where the builds of python-build-standalone are, for add_python=.",
    )
    return mirror(offer(registries(pythons(run))))


def read_mirrors(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Pairs HOST=URL of an option that may be repeated."""
    mirrors = {}
    for pair in pairs:
        host, _, address = pair.partition("=")
        if not host or not address.startswith(("http://", "https://")):
            raise click.BadParameter(f"{pair!r} is no HOST=URL", context, option)
        mirrors[host] = address
    return mirrors
