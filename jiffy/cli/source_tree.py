"""What is part of jiffy's source but not of its package: the benchmarks and the simulation."""

from __future__ import annotations

import importlib
from typing import Any

from jiffy.errors import NotFoundError


def import_from_source(module: str, what: str) -> Any:
    """A module of a clone; NotFoundError, which names it as `what`, where there is none."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise NotFoundError(
            f"{what} is not installed", why="it comes with jiffy's source", hint="run from a clone of it"
        ) from None
