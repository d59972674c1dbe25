"""What a server is told when it is started, passed on from the command to the process that serves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import click

from jiffy.server.offers import OFFERS
from jiffy.store.base import POSTGRES_SCHEMES

STORE_VARIABLE: Final = "JIFFY_STORE"
PYTHON_BUILDS: Final = "https://github.com/astral-sh/python-build-standalone/releases/download"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`mirror` is the address of a bucket that is to have all objects too, empty for none; `offers` names what of this
    host's configuration the steps of builds may use; `registry_mirrors` are addresses that are asked in place of a
    registry's host, `python_builds` the address of the Pythons for `add_python=`. `store` is the address of a PostgreSQL
    database, empty for a file in the data directory; it may hold a password, and is passed on by the environment. `gate`
    is the address, HOST:PORT, where workers from elsewhere join; empty for nowhere. `shared` is the folder with what
    all servers of the store share; empty for a server that is alone. `fleet` is a file that describes machines which the
    server may start; empty for none. `keep_outputs`: days that the outputs of a call are kept; `keep_logs`: that
    lines of containers are."""

    mirror: str = ""
    offers: tuple[str, ...] = ()
    registry_mirrors: Mapping[str, str] = field(default_factory=dict)
    python_builds: str = PYTHON_BUILDS
    store: str = ""
    gate: str = ""
    shared: str = ""
    fleet: str = ""
    keep_outputs: float = 7.0
    keep_logs: float = 30.0

    @property
    def log_seconds(self) -> float:
        return self.keep_logs * 24 * 3600

    @property
    def output_seconds(self) -> float:
        return self.keep_outputs * 24 * 3600

    def arguments(self) -> tuple[str, ...]:
        """As server_options reads them; without what `environment` has."""
        offers = [word for name in self.offers for word in ("--offer", name)]
        pairs = [f"{host}={address}" for host, address in self.registry_mirrors.items()]
        mirrors = [word for pair in pairs for word in ("--registry-mirror", pair)]
        places = ("--mirror", self.mirror, "--python-builds", self.python_builds, "--gate", self.gate)
        kept = ("--keep-outputs", str(self.keep_outputs), "--keep-logs", str(self.keep_logs))
        return (*places, "--shared", self.shared, "--fleet", self.fleet, *kept, *offers, *mirrors)

    def environment(self) -> dict[str, str]:
        """What arguments would show to everybody on this host."""
        return {STORE_VARIABLE: self.store} if self.store else {}


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --mirror, --offer, --registry-mirror, --python-builds, --store, --gate, --shared, --fleet,
    --keep-outputs and --keep-logs, given to the command as `options: ServerOptions`."""

    @functools.wraps(command)
    def run(
        *arguments: Any,
        mirror: str,
        offers: tuple[str, ...],
        registry_mirrors: dict[str, str],
        python_builds: str,
        store: str,
        gate: str,
        shared: str,
        fleet: str,
        keep_outputs: float,
        keep_logs: float,
        **others: Any,
    ) -> Any:
        options = ServerOptions(
            mirror, offers, registry_mirrors, python_builds, store, gate, shared, fleet, keep_outputs, keep_logs
        )
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
    gate = click.option(
        "--gate",
        default="",
        envvar="JIFFY_GATE",
        metavar="HOST:PORT",
        callback=_check_gate,
        help="Where workers from elsewhere may join, by TLS: 0.0.0.0:9902. See `jiffy token create`.",
    )
    shared = click.option(
        "--shared",
        default="",
        envvar="JIFFY_SHARED",
        metavar="FOLDER",
        help="For one of several servers on a store: a folder that all of them see, for objects and keys.",
    )
    fleet = click.option(
        "--fleet",
        default="",
        envvar="JIFFY_FLEET",
        metavar="FILE",
        help="Machines that the server starts when there is no room, and ends when they are idle: see docs/FLEET.md.",
    )
    keep_outputs = _days_option("--keep-outputs", 7.0, "How long the outputs of calls are kept.")
    keep_logs = _days_option(
        "--keep-logs",
        30.0,
        "How long what containers printed is kept; lines of builds are as long as their image.",
    )
    taking: Callable[..., Any] = run
    for option in (keep_logs, keep_outputs, fleet, shared, gate, store_option, pythons, registries, offer, mirror):
        taking = option(taking)
    return taking


def _days_option(name: str, default: float, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name,
        default=default,
        type=click.FloatRange(min=0, min_open=True),
        envvar=f"JIFFY_{name.strip('-').replace('-', '_').upper()}",
        metavar="DAYS",
        show_default=True,
        help=text,
    )


def store_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --store, given to the command as `store: str`."""
    option = click.option(
        "--store",
        default="",
        envvar=STORE_VARIABLE,
        callback=_check_store,
        help="The database: postgresql://user@host/name. Without it, a file in the data directory.",
    )
    return option(command)


def _check_store(context: click.Context, option: click.Parameter, address: str) -> str:
    if address and not address.startswith(POSTGRES_SCHEMES):
        raise click.BadParameter(f"{address.partition(':')[0]!r} is no postgresql:// address", context, option)
    return address


def _check_gate(context: click.Context, option: click.Parameter, address: str) -> str:
    host, _, port = address.rpartition(":")
    if address and (not host or not port.isdecimal()):
        raise click.BadParameter(f"{address!r} is no HOST:PORT", context, option)
    return address


def read_mirrors(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Pairs HOST=URL of an option that may be repeated."""
    mirrors = {}
    for pair in pairs:
        host, _, address = pair.partition("=")
        if not host or not address.startswith(("http://", "https://")):
            raise click.BadParameter(f"{pair!r} is no HOST=URL", context, option)
        mirrors[host] = address
    return mirrors
