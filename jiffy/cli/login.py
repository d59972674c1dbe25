"""`jiffy login`"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import click

from jiffy.cli.running import RunningServer, data_option, find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError


@click.command()
@data_option
@click.option("--profile", default="jiffy", show_default=True, help="The profile's name.")
@click.option("--activate", is_flag=True, help="Make it the profile that the modal client uses by default.")
def login(data: Path, profile: str, activate: bool) -> None:
    """Add a profile for the running server to the modal client's configuration; others stay as they are."""
    server = find_server(DataDirectory(data))
    path = Path(os.environ.get("MODAL_CONFIG_PATH", "~/.modal.toml")).expanduser()
    text = path.read_text() if path.exists() else ""
    profiles = tomllib.loads(text)
    if profile in profiles:
        raise ConflictError(
            f"{path} has a profile {profile} already", hint="remove it there, or choose another with --profile"
        )
    if activate and any(settings.get("active") for settings in profiles.values()):
        raise ConflictError(
            f"{path} has an active profile already", hint=f"run `modal profile activate {profile}` after this instead"
        )
    _append(path, text, _section(server, profile, activate))
    click.echo(f"wrote profile {profile} to {path}; use it with MODAL_PROFILE={profile}")


def _section(server: RunningServer, profile: str, activate: bool) -> str:
    lines = [
        f"[{profile}]",
        f'server_url = "{server.url}"',
        f'token_id = "{server.token_id}"',
        f'token_secret = "{server.token_secret}"',
    ]
    return "\n".join([*lines, *(["active = true"] if activate else []), ""])


def _append(path: Path, text: str, section: str) -> None:
    """Replace the file whole: it is never seen half written, and only its owner may read it."""
    temporary = path.with_name(f"{path.name}.jiffy-new")
    temporary.touch(mode=0o600)
    temporary.write_text(f"{text.rstrip()}\n\n{section}" if text.strip() else section)
    temporary.rename(path)
