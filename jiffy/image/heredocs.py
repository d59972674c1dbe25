"""Where here-documents are named in a line of a Dockerfile, as <<EOF, <<-"EOF" or 3<< EOF."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_START: Final = re.compile(r"<<(?!<)(-?)[ \t]*")
_BARE: Final = re.compile(r"[\w.$-]")
_FIRST: Final = re.compile(r"[A-Za-z_$\"'\\-]")
_BEFORE: Final = " \t0123456789&|;"
_ARITHMETIC: Final = re.compile(r"\$\(\(.*?\)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Marker:
    """`text` as it was written, `name` what ends the document. `strips`: tabs at the beginning of its lines are left out.
    `expands`: nothing of the name was in quotes."""

    text: str
    name: str
    strips: bool
    expands: bool


def find_markers(line: str) -> Iterator[Marker]:
    """Outside of quotes and arithmetic. `<<<` is a here-string of the shell."""
    quote = ""
    position = 0
    while position < len(line):
        character = line[position]
        if quote:
            quote = "" if character == quote else quote
        elif character == "\\":
            position += 1
        elif character in "\"'":
            quote = character
        elif (arithmetic := _ARITHMETIC.match(line, position)) is not None:
            position = arithmetic.end() - 1
        elif line.startswith("<<<", position):
            position += 2
        elif line[position - 1 : position] in _BEFORE and (marker := _read_marker(line, position)) is not None:
            yield marker
            position += len(marker.text) - 1
        position += 1


def _read_marker(line: str, start: int) -> Marker | None:
    match = _START.match(line, start)
    if match is None or not _FIRST.match(line, match.end()):
        return None
    name, end, is_quoted = _read_word(line, match.end())
    return Marker(line[start:end], name, bool(match[1]), not is_quoted) if name else None


def _read_word(line: str, position: int) -> tuple[str, int, bool]:
    """A word of the shell without its quotes, where it ends, and whether it had some; empty when a quote is not closed."""
    parts: list[str] = []
    is_quoted = False
    while position < len(line):
        character = line[position]
        if character in "\"'":
            end = line.find(character, position + 1)
            if end < 0:
                return "", position, False
            parts.append(line[position + 1 : end])
            is_quoted, position = True, end
        elif character == "\\" and position + 1 < len(line):
            parts.append(line[position + 1])
            position += 1
        elif _BARE.match(character):
            parts.append(character)
        else:
            break
        position += 1
    return "".join(parts), position, is_quoted
