"""Named places between one durable step and the next, at which tests have a process killed.

Such a place is armed by a file with its name in the folder that JIFFY_FAILPOINTS names. Whoever reaches it first takes the
file away and dies as by SIGKILL. Without the variable nothing is looked for.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

VARIABLE: Final = "JIFFY_FAILPOINTS"

NAMES: Final = (
    "app-created",
    "app-stopped",
    "blob-stored",
    "blob-recorded",
    "input-accepted",
    "launch-recorded",
    "launch-sent",
    "input-claimed",
    "output-recorded",
    "end-settled",
    "events-recorded",
    "image-made",
    "image-recorded",
    "order-received",
    "root-mounted",
    "container-started",
    "container-exited",
    "change-captured",
    "object-verified",
    "object-published",
)

_FOLDER: Final = os.environ.get(VARIABLE, "")


def reach(name: str) -> None:
    """This process is at the place with this name."""
    if not _FOLDER:
        return
    assert name in NAMES, name
    try:
        (Path(_FOLDER) / name).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
