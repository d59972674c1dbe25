"""`jiffy stop`"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click

from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.locks import lock_holder


@click.command()
@data_option
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for containers to end.")
def stop(data: Path, timeout: float) -> None:
    """Stop the server and its worker; containers end, inputs that were accepted wait for the next start."""
    directory = DataDirectory(data)
    locks = (directory.server_lock, directory.worker_lock)
    holders = [pid for lock in locks if (pid := lock_holder(lock)) is not None]
    if not holders:
        click.echo(f"nothing runs on {directory.root}")
        return
    for pid in holders:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(_lives(pid) for pid in holders):
        if time.monotonic() > deadline:
            raise UnavailableError(f"processes {holders} did not end within {timeout:g} s")
        time.sleep(0.05)
    click.echo("stopped")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
