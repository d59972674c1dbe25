"""Versions of the client: which one runs the programs, and where others are installed.

`JIFFY_TEST_CLIENT=1.0.5 scripts/test tests/programs` has all programs run by that one. What came with a later version is
left out then: such tests are marked `since`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

VARIABLE: Final = "JIFFY_TEST_CLIENT"
OLDEST: Final = "1.0.5"
_FOLDER: Final = Path(sys.prefix) / "clients"


def client_version() -> str:
    """Of the client that runs the programs."""
    return os.environ.get(VARIABLE) or version("modal")


def is_another_client() -> bool:
    return VARIABLE in os.environ


def client_python() -> str:
    """The interpreter that has it: this one, unless another version is asked for."""
    wanted = os.environ.get(VARIABLE)
    return install_client(wanted) if wanted else sys.executable


def install_client(wanted: str) -> str:
    """The interpreter of an environment with this client and nothing else, as a person would have it. It is made once."""
    python = _FOLDER / wanted / "bin" / "python"
    _FOLDER.mkdir(exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_FOLDER / wanted / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(_FOLDER / wanted)], check=True)
            command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"modal=={wanted}"]
            subprocess.run(command, check=True, timeout=200)
            (_FOLDER / wanted / "installed").touch()
    return str(python)


def as_it_was(arguments: Sequence[str]) -> list[str]:
    """A command as the client that runs it knows it: since 1.4 what stops something asks, and `--yes` always answers."""
    if _parts(client_version()) >= (1, 4):
        return list(arguments)
    if list(arguments[1:2]) == ["stop"]:
        return [each for each in arguments if each != "--yes"]
    if list(arguments[:2]) == ["environment", "delete"]:
        return ["--confirm" if each == "--yes" else each for each in arguments]
    return list(arguments)


def leave_out_newer(items: list[pytest.Item]) -> None:
    """Skip what the client that runs the programs does not have."""
    here = client_version()
    for item in items:
        for marker in item.iter_markers("since"):
            if _parts(here) < _parts(marker.args[0]):
                reason = f"came with client {marker.args[0]}"
                item.add_marker(pytest.mark.skip(reason=reason))


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
