"""Options of commands that ask registries."""

from __future__ import annotations

import os
from typing import Final

import click

from jiffy.image.registry import Credentials
from jiffy.server.options import read_mirrors

username_option: Final = click.option(
    "--username", default="", help="For the registry; the password is read from JIFFY_REGISTRY_PASSWORD."
)
mirrors_option: Final = click.option(
    "--registry-mirror",
    "mirrors",
    multiple=True,
    callback=read_mirrors,
    metavar="HOST=URL",
    help="Ask there in place of a host.",
)


def find_credentials(username: str) -> Credentials | None:
    """With the password of the environment; None without a name."""
    return Credentials(username, os.environ.get("JIFFY_REGISTRY_PASSWORD", "")) if username else None
