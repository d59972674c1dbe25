"""`jiffy gc`"""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from jiffy.cli.running import ask_server, data_option, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError


@click.command()
@data_option
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option("--grace", default=24 * 3600, show_default=True, help="Seconds for which new objects are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(data: Path, dry_run: bool, grace: int, as_json: bool) -> None:
    """Remove objects of the server that no image, mount, profile or blob refers to. The server does so by itself, too."""
    directory = DataDirectory(data)
    url = find_server(directory).http_url
    wanted = {"grace": grace, "dry_run": dry_run}
    try:
        with Console(stderr=True).status("collecting"):
            found = ask_server(url, directory.token, "/collect", wanted, timeout=None)
    except UnavailableError as error:
        raise UnavailableError("nothing was collected", why=str(error)) from error
    if as_json:
        click.echo(json.dumps(found))
        return
    verb = "would be removed" if dry_run else "removed"
    click.echo(
        f"{found['removed']} objects {verb}, {found['removed_bytes'] / 1e6:.1f} MB; {found['kept']} are needed, "
        f"{found['young']} are too new to tell"
    )
