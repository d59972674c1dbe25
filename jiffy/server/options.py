"""What a server is told when it is started, passed on from the command to the process that serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from jiffy.server.offers import OFFERS

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`mirror` is the address of a bucket that is to have all objects too, empty for none; `offers` names what of this
    host's configuration the steps of builds may use."""

    mirror: str = ""
    offers: tuple[str, ...] = ()

    def arguments(self) -> tuple[str, ...]:
        """As server_options reads them."""
        return ("--mirror", self.mirror, *(word for name in self.offers for word in ("--offer", name)))


def server_options(command: F) -> F:
    """Adds --mirror and --offer."""
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
    return mirror(offer(command))
