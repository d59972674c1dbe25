"""The instructions of an image, as the client sends them: Dockerfile lines.

This version runs no build steps. It knows the recipe of `Image.debian_slim()`, whose steps it passes over because the base
image that jiffy makes stands for their result (less the compilers: docs/decisions/005), and the instructions that change
only how a container is run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from jiffy.errors import InvalidError, UnsupportedError

_PASSED_OVER: Final = (
    re.compile(r"RUN apt-get update"),
    re.compile(r"RUN apt-get install -y gcc gfortran build-essential"),
    re.compile(r"RUN pip install --upgrade pip( wheel uv)?"),
    re.compile(r"RUN echo 'debconf debconf/frontend select Noninteractive' \| debconf-set-selections"),
)


@dataclass(slots=True)
class Recipe:
    """`base` is the reference of the first line. None means that the base's own value stays."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None


def read_recipe(lines: Sequence[str]) -> Recipe:
    """Read Dockerfile lines. InvalidError where they make no sense, UnsupportedError for what needs a build."""
    instructions = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not instructions or not instructions[0].upper().startswith("FROM "):
        raise InvalidError("the image's definition does not begin with FROM")
    recipe = Recipe(base=instructions[0].split()[1])
    for line in instructions[1:]:
        if not any(pattern.fullmatch(line) for pattern in _PASSED_OVER):
            _apply(recipe, line)
    return recipe


def _apply(recipe: Recipe, line: str) -> None:
    word, _, rest = line.partition(" ")
    match word.upper():
        case "ENV":
            recipe.environment.update(_read_environment(rest))
        case "WORKDIR":
            recipe.working_directory = _join(recipe.working_directory, rest.strip())
        case "ENTRYPOINT":
            recipe.entrypoint = _read_command(rest)
        case "CMD":
            recipe.command = _read_command(rest)
        case _:
            raise UnsupportedError(
                f"cannot build the step `{line}`",
                why="this version of jiffy builds no images yet",
                hint="debian_slim(), env(), workdir(), entrypoint(), cmd() and add_local_*() without copy work",
            )


def _read_environment(text: str) -> dict[str, str]:
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise InvalidError(f"cannot read `ENV {text}`", why=str(error)) from error
    if not all(separator for _, separator, _ in pairs):
        raise InvalidError(f"cannot read `ENV {text}`", hint="write NAME=value")
    return {name: value for name, _, value in pairs}


def _read_command(text: str) -> tuple[str, ...]:
    if not text.lstrip().startswith("["):
        return ("/bin/sh", "-c", text)
    try:
        words = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"cannot read the command {text}", why=str(error)) from error
    return tuple(str(word) for word in words)


def _join(current: str | None, path: str) -> str:
    path = path.strip("\"'")
    return path if path.startswith("/") else f"{current or ''}/{path}"
