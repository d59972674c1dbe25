"""`jiffy fleet`"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.running import ask_server, data_option, find_server
from jiffy.datadir import DataDirectory


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fleet(data: Path, as_json: bool) -> None:
    """Show the machines that the server has started today, what they cost, and what keeps others from being started."""
    directory = DataDirectory(data)
    told = ask_server(find_server(directory).http_url, directory.token, "/fleet")
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    Console().print(_table(told["machines"]))
    running = sum(machine["ended_at"] is None for machine in told["machines"])
    click.echo(f"{running} of {told['maximum']} machines, {told['hourly']:g} an hour, {told['spent_today']:.2f} today")
    if told["wanted"]:
        click.echo(f"{told['wanted']} containers have no room{_because(told['held_back'])}")
    if told["trouble"]:
        click.echo(f"trouble: {told['trouble']}")


def _table(machines: list[dict[str, Any]]) -> Table:
    table = Table("machine", "offer", "state", "started", "for", "price")
    for machine in machines:
        lived = (machine["ended_at"] or time.time()) - machine["started_at"]
        state = machine["state"] + (f": {machine['reason']}" if machine["reason"] else "")
        started = time.strftime("%H:%M:%S", time.localtime(machine["started_at"]))
        table.add_row(
            machine["machine_id"], machine["offer"], state, started, f"{lived / 60:.1f} min", f"{machine['price']:g}"
        )
    return table


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
