"""`jiffy`: one module per verb, imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from jiffy.errors import JiffyError

_VERBS: Final = {
    "bench": "Measure jiffy beside its peers and limits.",
    "cache": "Show and check the objects that this machine holds.",
    "doctor": "Check what this machine can do for jiffy.",
    "env": "Print the lines that point a shell's modal client at the running server.",
    "fleet": "Show the machines that the server has started.",
    "gc": "Remove objects of the server that nothing refers to.",
    "image": "Bring images to a server, show them, mount them.",
    "login": "Write a profile for the running server into the modal client's configuration.",
    "serve": "Run the server and a worker on this machine.",
    "sim": "Run the server in simulated worlds where everything goes wrong.",
    "stop": "Stop the server and its worker.",
    "timeline": "Show where the time of the last start went.",
    "token": "Issue, list and revoke the tokens of workers from elsewhere.",
    "worker": "Run a worker for a server elsewhere.",
    "zone": "Serve a cache of objects that many hosts share.",
}


class _Verbs(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"jiffy.cli.{name}"), name)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.command(cls=_Verbs)
@click.version_option(package_name="jiffy")
def jiffy() -> None:
    """A self-hosted serverless container platform for programs written with the modal SDK."""


def main() -> None:
    """The entry point: an error that a person can act on is one message, not a traceback."""
    try:
        jiffy()
    except JiffyError as error:
        click.echo(f"jiffy: {error}", err=True)
        sys.exit(1)
