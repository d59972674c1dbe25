"""Which server a command speaks to: the one on a data directory here, or one elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from jiffy.cli.running import ask_server, data_option, find_server
from jiffy.datadir import DataDirectory, read_token


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """`data` is this host's data directory, which is the server's own unless it is elsewhere."""

    data: DataDirectory
    url: str
    token_file: Path
    is_elsewhere: bool

    @property
    def token(self) -> str:
        return read_token(self.token_file)

    def ask(self, path: str, given: object = None) -> Any:
        """What it answers for a path, and for the JSON values that it is given there."""
        return ask_server(self.url, self.token_file, path, given)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --data, --server and --token-file, given to the command as `server: ServerAddress`."""

    @functools.wraps(command)
    def run(*arguments: Any, find_server: Callable[[], ServerAddress], **options: Any) -> Any:
        return command(*arguments, server=find_server(), **options)

    return optional_server_options(run)


def optional_server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that may need no server: it is given `find_server`, which gives its address."""

    @functools.wraps(command)
    def run(*arguments: Any, data: Path, server: str, token_file: Path | None, **options: Any) -> Any:
        directory = DataDirectory(data)

        def find() -> ServerAddress:
            url = server or find_server(directory).http_url
            return ServerAddress(directory, url, token_file or directory.token, bool(server))

        return command(*arguments, find_server=find, **options)

    token = click.option("--token-file", type=click.Path(path_type=Path, exists=True), help="That server's token.json.")
    return data_option(click.option("--server", default="", help="The HTTP address of a server elsewhere.")(token(run)))
