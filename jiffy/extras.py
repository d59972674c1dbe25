"""What is installed only by those who need it: the extras of the package."""

from __future__ import annotations

import importlib
from typing import Any

from jiffy.errors import UnsupportedError


def load_extra(module: str, what: str, extra: str) -> Any:
    """A module, loaded when it is needed. `what` says what cannot be done without it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            what, why=f"{error.name} is not installed", hint=f"pip install 'jiffy[{extra}]'"
        ) from error
