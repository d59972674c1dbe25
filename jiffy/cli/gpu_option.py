"""What GPUs a worker has, as its owner declares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from jiffy.worker.gpus import VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def gpu_option(command: F) -> F:
    """Adds --gpu, given to the command as `gpus: tuple[str, ...]`."""
    option = click.option(
        "--gpu",
        "gpus",
        multiple=True,
        envvar=VARIABLE,
        metavar="TYPE=DEVICE",
        help="A GPU for containers, by its name in the Container Device Interface: H100=nvidia.com/gpu=0. Repeatable.",
    )
    return option(command)
