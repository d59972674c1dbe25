"""`jiffy token`"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.running import ask_server, data_option, find_server
from jiffy.datadir import DataDirectory

_HOLDERS: Final = {"client": "clients", "worker": "workers", "proxy": "web endpoints"}


@click.group()
def token() -> None:
    """Tokens with which workers from elsewhere join the server that runs here, and that open its guarded web endpoints.
    `jiffy env` has that of clients; others get one of their own by `modal token new`."""


@token.command()
@data_option
@click.option("--proxy", is_flag=True, help="For web endpoints with requires_proxy_auth, not for workers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(data: Path, proxy: bool, as_json: bool) -> None:
    """Issue a token, good for any number of workers until it is revoked. It is shown this once."""
    directory = DataDirectory(data)
    wanted = {"kind": "proxy"} if proxy else {}
    issued = ask_server(find_server(directory).http_url, directory.token, "/tokens", wanted)
    if as_json:
        click.echo(json.dumps(issued, indent=1))
        return
    if proxy:
        click.echo(f"Modal-Key: {issued['token_id']}\nModal-Secret: {issued['token_secret']}")
        return
    host, _, port = issued["gate"].rpartition(":")
    name = socket.getfqdn() if host in ("0.0.0.0", "[::]", "::") else host
    click.echo(f"jiffy worker --server https://{name}:{port} --token {issued['token']}")


@token.command("list")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_tokens(data: Path, as_json: bool) -> None:
    """Show the tokens that were issued, without their secrets."""
    directory = DataDirectory(data)
    issued = ask_server(find_server(directory).http_url, directory.token, "/tokens")
    if as_json:
        click.echo(json.dumps(issued, indent=1))
        return
    table = Table("token", "for", "issued", "until", "approved by")
    for each in issued:
        ends = _moment(each["expires_at"]) if each["expires_at"] else ""
        table.add_row(each["token_id"], _HOLDERS[each["kind"]], _moment(each["created_at"]), ends, each["approved_by"])
    Console().print(table)


@token.command()
@data_option
@click.argument("token_id")
def revoke(data: Path, token_id: str) -> None:
    """Let nobody use a token any more."""
    directory = DataDirectory(data)
    ask_server(find_server(directory).http_url, directory.token, "/tokens/revoke", {"token_id": token_id})
    click.echo(f"{token_id} is revoked")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
