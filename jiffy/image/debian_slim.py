"""The recipe of the client's `Image.debian_slim()`, and what of it a base made from packages stands for already: less the
compilers (docs/decisions/005)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_DONE: Final = (
    re.compile(r"RUN apt-get update"),
    re.compile(r"RUN apt-get install -y gcc gfortran build-essential"),
    re.compile(r"RUN echo 'debconf debconf/frontend select Noninteractive' \| debconf-set-selections"),
)
_TOOLS: Final = re.compile(r"RUN pip install --upgrade pip( wheel uv)?")
_OTHERS: Final = (
    re.compile(r"FROM python:\S+-slim-[a-z]+"),
    re.compile(r"COPY /modal_requirements\.txt /modal_requirements\.txt"),
    re.compile(r"RUN (python -m )?(uv )?pip install .*-r /modal_requirements\.txt"),
    re.compile(r"RUN rm /modal_requirements\.txt"),
    re.compile(r'CMD \["sleep", "\d+"\]'),
)


def shorten(lines: Sequence[str]) -> list[str]:
    """The lines of that recipe without those that are done; any other definition as it is. The package tools are kept where
    what follows installs with them."""
    stripped = [line.strip() for line in lines]
    if not _is_recipe(stripped):
        return list(lines)
    kept = [line for line in stripped if not any(pattern.fullmatch(line) for pattern in _DONE)]
    if any("modal_requirements" in line for line in kept):
        return kept
    return [line for line in kept if not _TOOLS.fullmatch(line)]


def _is_recipe(lines: Sequence[str]) -> bool:
    known = (*_DONE, _TOOLS, *_OTHERS)
    return all(any(pattern.fullmatch(line) for pattern in known) for line in lines) and all(
        any(pattern.fullmatch(line) for line in lines) for pattern in (*_DONE, _TOOLS, _OTHERS[0])
    )
