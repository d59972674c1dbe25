"""`jiffy env`"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from jiffy.cli.running import data_option, find_server
from jiffy.datadir import DataDirectory


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of shell lines.")
def env(data: Path, as_json: bool) -> None:
    """Print export lines for `eval "$(jiffy env)"`; fails when no server answers."""
    server = find_server(DataDirectory(data))
    variables = {
        "MODAL_SERVER_URL": server.url,
        "MODAL_TOKEN_ID": server.token_id,
        "MODAL_TOKEN_SECRET": server.token_secret,
    }
    if as_json:
        click.echo(json.dumps(variables))
    else:
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
