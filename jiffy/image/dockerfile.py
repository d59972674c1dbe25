"""Dockerfiles as instructions: lines joined, comments dropped, here-documents read. What the instructions mean is in
instructions.py; the grammar is that of the Dockerfile reference."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.heredocs import Marker, find_markers

LONGEST_DOCKERFILE: Final = 16 * 2**20
"""Bytes, here-documents included."""

_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES: Final = ("syntax", "escape", "check")
_KEYWORD: Final = re.compile(r"\s*([^\s]+)(?:\s+|$)")
_FLAG: Final = re.compile(r"--([a-z][a-z-]*)(?:=|$)")
_TAKES_HEREDOCS: Final = ("RUN", "COPY", "ADD")


class DockerfileError(InvalidError):
    """A line that makes no sense. `line` counts from 1; 0 where it is not known."""

    def __init__(self, what: str, line: int, *, why: str = "", hint: str = "") -> None:
        super().__init__(f"line {line}: {what}" if line else what, why=why, hint=hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`text` is its content; `expands` when its name was not quoted; `marker` as it was written, such as <<EOF."""

    name: str
    text: str
    expands: bool
    marker: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `text` is what follows the keyword and the flags, on one line; `source` is all of it, for people."""

    line: int
    keyword: str
    flags: tuple[tuple[str, str], ...]
    text: str
    heredocs: tuple[Heredoc, ...]
    escape: str

    @property
    def source(self) -> str:
        """As a person knows it, on one line."""
        flags = "".join(f"--{name}={value} " if value else f"--{name} " for name, value in self.flags)
        return f"{self.keyword} {flags}{self.text}".strip()

    @property
    def whole(self) -> str:
        """All that it says, here-documents included: what a cache may know it by."""
        return json.dumps([self.source, [(document.name, document.text) for document in self.heredocs]])

    def error(self, what: str, *, why: str = "", hint: str = "") -> DockerfileError:
        return DockerfileError(what, self.line, why=why, hint=hint)


def parse_dockerfile(text: str) -> list[Instruction]:
    """The instructions of a file. DockerfileError where it cannot be read."""
    if len(text) > LONGEST_DOCKERFILE:
        raise InvalidError(f"a Dockerfile of {len(text)} bytes", why=f"the most is {LONGEST_DOCKERFILE}")
    lines = text.removeprefix("\ufeff").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    reader = _Reader(lines, _read_escape(lines))
    instructions = []
    while (instruction := reader.next()) is not None:
        instructions.append(instruction)
    return instructions


def read_json_words(text: str) -> tuple[str, ...] | None:
    """The words of an instruction in JSON form; None when it is not in that form."""
    if not text.lstrip().startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return tuple(words)


def _read_escape(lines: Sequence[str]) -> str:
    """From the directives at the top of a file."""
    seen: set[str] = set()
    escape = "\\"
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or (name := match[1].lower()) not in _DIRECTIVES:
            break
        if name in seen:
            raise DockerfileError(f"the directive `{name}` is there twice", number)
        seen.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileError(f"`{match[2]}` cannot be the escape character", number, hint="\\ or ` can")
            escape = match[2]
    return escape


class _Reader:
    """Takes one instruction after another from the lines."""

    def __init__(self, lines: Sequence[str], escape: str) -> None:
        self._lines = lines
        self._escape = escape
        self._continued = re.compile(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")
        self._position = 0

    def next(self) -> Instruction | None:
        """The next one; None at the end."""
        logical = ""
        while not logical:
            while self._position < len(self._lines) and _is_idle(self._lines[self._position]):
                self._position += 1
            if self._position == len(self._lines):
                return None
            line = self._position + 1
            logical = self._join()
        keyword, rest = _split_keyword(logical)
        flags, text = _split_flags(rest)
        heredocs: tuple[Heredoc, ...] = ()
        wanted = text.removeprefix("ONBUILD ") if keyword == "ONBUILD" else keyword
        if wanted.split(" ", 1)[0].upper() in _TAKES_HEREDOCS and read_json_words(text) is None:
            heredocs = tuple([self._read_heredoc(marker, line) for marker in find_markers(text)])
        return Instruction(line, keyword, flags, text, heredocs, self._escape)

    def _join(self) -> str:
        """The logical line that begins here: continued lines without their escapes, comments and empty lines between left
        out."""
        parts: list[str] = []
        while self._position < len(self._lines):
            line = self._lines[self._position]
            self._position += 1
            if parts and _is_idle(line):
                continue
            if not parts:
                line = line.lstrip()
            match = self._continued.search(line)
            if match is None:
                parts.append(line)
                break
            parts.append(line[: line.rindex(self._escape)])
        return "".join(parts).rstrip()

    def _read_heredoc(self, marker: Marker, line: int) -> Heredoc:
        text: list[str] = []
        while self._position < len(self._lines):
            content = self._lines[self._position]
            self._position += 1
            if marker.strips:
                content = content.lstrip("\t")
            if content == marker.name:
                body = "".join(f"{part}\n" for part in text)
                return Heredoc(marker.name, body, expands=marker.expands, marker=marker.text)
            text.append(content)
        raise DockerfileError(
            f"the here-document {marker.text} does not end", line, hint=f"a line `{marker.name}` ends it"
        )


def _is_idle(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def _split_keyword(line: str) -> tuple[str, str]:
    match = _KEYWORD.match(line)
    assert match is not None
    return match[1].upper(), line[match.end() :].strip()


def _split_flags(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Words such as --from=base at the beginning; `--` alone ends them."""
    flags: list[tuple[str, str]] = []
    while text.startswith("--"):
        word, rest = _first_word(text)
        if word == "--":
            return tuple(flags), rest
        if _FLAG.match(word) is None:
            break
        name, _, value = word[2:].partition("=")
        flags.append((name, value))
        text = rest
    return tuple(flags), text


def _first_word(text: str) -> tuple[str, str]:
    """The text up to a blank outside of quotes, without those, and what follows."""
    word: list[str] = []
    quote = ""
    for position, character in enumerate(text):
        if quote:
            if character == quote:
                quote = ""
            else:
                word.append(character)
        elif character in "\"'":
            quote = character
        elif character in " \t":
            return "".join(word), text[position:].lstrip()
        else:
            word.append(character)
    return "".join(word), ""
