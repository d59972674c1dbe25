"""The server that runs on a data directory, as local commands find it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from jiffy.datadir import DataDirectory, default_data_directory, read_token
from jiffy.errors import NotFoundError, UnavailableError

F = TypeVar("F", bound=Callable[..., Any])


def data_option(command: F) -> F:
    """Adds --data, given to the command as `data: Path`."""
    option = click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_data_directory,
        show_default="JIFFY_DATA, or /var/lib/jiffy",
        help="The data directory.",
    )
    return option(command)


@dataclass(frozen=True, slots=True)
class RunningServer:
    url: str
    http_url: str
    pid: int
    workers: int
    token_id: str
    token_secret: str


def find_server(data: DataDirectory) -> RunningServer:
    """The server that answers now; UnavailableError when none does."""
    try:
        address = json.loads(data.address.read_text())
        with urllib.request.urlopen(f"{address['http_url']}/health", timeout=5) as answer:
            health = json.load(answer)
        token = json.loads(data.token.read_text())
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise UnavailableError(
            f"no server answers for {data.root}", why=_reason(error), hint="start one with `jiffy serve`"
        ) from error
    return RunningServer(
        url=address["url"],
        http_url=address["http_url"],
        pid=health["pid"],
        workers=health["workers"],
        token_id=token["token_id"],
        token_secret=token["token_secret"],
    )


def ask_server(url: str, token_file: Path, path: str, given: object = None, timeout: float | None = 300) -> Any:
    """What the server at an HTTP address answers for a path, and for the JSON values that it is given there. Raises
    NotFoundError with its words, or UnavailableError."""
    body = None if given is None else json.dumps(given).encode()
    try:
        headers = {"Authorization": f"Bearer {read_token(token_file)}"}
        request = urllib.request.Request(url + path, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace").strip()
        raise (NotFoundError if error.code == 404 else UnavailableError)(
            words or f"{url} answered {error.code}"
        ) from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{url} does not answer", why=str(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "none has been started there"
    if isinstance(error, PermissionError):
        return "this user may not read the data directory"
    return "it has stopped or hangs"
