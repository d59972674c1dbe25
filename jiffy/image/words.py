"""Words of a Dockerfile: split at blanks, their variables expanded, their quotes removed.

The rules are the Dockerfile reference's: a subset of the shell's, with the escape character that a file may choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from jiffy.errors import InvalidError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL: Final = re.compile(r"[0-9@*#?\-$!]")
_IN_QUOTES: Final = '"$'
LONGEST_WORD: Final = 2**20
"""Characters that an expansion may give: patterns could multiply them without end."""


LONGEST_MATCHED: Final = 4096
"""Characters of a value that a pattern is held against."""


def split_words(text: str, escape: str = "\\") -> list[str]:
    """At blanks outside of quotes; quotes and escapes stay."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == escape and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
            position += 1
            continue
        word += character
        position += 1
    return [*words, word] if word else words


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Variables expanded, quotes and escapes removed. InvalidError where a brace or a quote stays open."""
    return _Expander(text, variables, escape).run()


def expand_document(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The same for a here-document: quotes are text, and only an escaped $ or escape loses its escape."""
    return _Expander(text, variables, escape, document=True).run()


def split_pair(word: str, escape: str = "\\") -> tuple[str, str] | None:
    """Name and value of a word such as NAME="value"; None when there is no `=` outside of quotes."""
    quote = ""
    position = 0
    while position < len(word):
        character = word[position]
        if character == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "=":
            return word[:position], word[position + 1 :]
        position += 1
    return None


class _Expander:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, *, document: bool = False) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._document = document
        self._position = 0

    def run(self) -> str:
        return self._take_until("")

    def _take_until(self, end: str, *, keeps_escapes: bool = False) -> str:
        """Up to one of the characters of `end`, which stays. Escapes that are kept are a pattern's, as `\\`."""
        parts: list[str] = []
        while self._position < len(self._text):
            character = self._text[self._position]
            if character in end:
                break
            if character == "$":
                parts.append(self._take_variable())
            elif character == self._escape and keeps_escapes:
                parts.append(self._take_kept())
            elif character == self._escape:
                parts.append(self._take_escaped(_IN_QUOTES if self._document else ""))
            elif character == "'" and not self._document:
                parts.append(self._take_single())
            elif character == '"' and not self._document:
                parts.append(self._take_double())
            else:
                parts.append(character)
                self._position += 1
            if sum(map(len, parts)) > LONGEST_WORD:
                raise InvalidError(f"{self._text[:60]!r} becomes too long")
            if len(parts) > 256:
                parts = ["".join(parts)]
        return "".join(parts)

    def _take_escaped(self, only: str) -> str:
        """What follows an escape; the escape stays before anything but `only` and itself, where that is not empty."""
        following = self._text[self._position + 1 : self._position + 2]
        self._position += 1 + len(following)
        if only and following not in (*only, self._escape):
            return self._escape + following
        return following or self._escape

    def _take_kept(self) -> str:
        following = self._take_escaped("")
        return following if following == "}" else f"\\{following}"

    def _take_single(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            raise InvalidError(f"a ' is not closed in {self._text[:60]!r}")
        text = self._text[self._position + 1 : end]
        self._position = end + 1
        return text

    def _take_double(self) -> str:
        self._position += 1
        parts: list[str] = []
        while self._position < len(self._text):
            character = self._text[self._position]
            if character == '"':
                self._position += 1
                return "".join(parts)
            if character == "$":
                parts.append(self._take_variable())
            elif character == self._escape:
                parts.append(self._take_escaped(_IN_QUOTES))
            else:
                parts.append(character)
                self._position += 1
        raise InvalidError(f'a " is not closed in {self._text[:60]!r}')

    def _take_variable(self) -> str:
        self._position += 1
        if self._text.startswith("{", self._position):
            self._position += 1
            return self._take_braces()
        match = _NAME.match(self._text, self._position) or _SPECIAL.match(self._text, self._position)
        if match is None:
            return "$"
        self._position = match.end()
        return self._variables.get(match[0], "")

    def _take_braces(self) -> str:
        match = _NAME.match(self._text, self._position) or _SPECIAL.match(self._text, self._position)
        if match is None:
            raise InvalidError(f"${{ is not followed by a name in {self._text[:60]!r}")
        name = match[0]
        self._position = match.end()
        value = self._variables.get(name)
        operator = self._take_operator()
        if not operator:
            self._close()
            return value or ""
        if operator in ("/", "//"):
            pattern = self._take_until("/}", keeps_escapes=True)
            replacement = ""
            if self._text.startswith("/", self._position):
                self._position += 1
                replacement = self._take_until("}", keeps_escapes=True)
            self._close()
            return _replace(value or "", pattern, replacement, everywhere=operator == "//")
        word = self._take_until("}", keeps_escapes=operator[-1] in "#%")
        self._close()
        return _apply(name, value, operator, word)

    def _take_operator(self) -> str:
        for operator in (":-", ":+", ":?", "##", "%%", "//", "-", "+", "?", "#", "%", "/"):
            if self._text.startswith(operator, self._position):
                self._position += len(operator)
                return operator
        return ""

    def _close(self) -> None:
        if not self._text.startswith("}", self._position):
            raise InvalidError(f"${{ is not closed, or has an unknown modifier, in {self._text[:60]!r}")
        self._position += 1


def _apply(name: str, value: str | None, operator: str, word: str) -> str:
    if operator[-1] in "#%":
        _check_length(value or "")
    known = bool(value) if operator.startswith(":") else value is not None
    match operator[-1]:
        case "-":
            return (value or "") if known else word
        case "+":
            return word if known else ""
        case "?":
            if not known:
                raise InvalidError(f"{name} is not set", why=word)
            return value or ""
        case "#":
            return _strip_start(value or "", word, longest=operator == "##")
    return _strip_end(value or "", word, longest=operator == "%%")


def _replace(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    _check_length(value)
    return re.sub(_pattern(pattern), lambda _: replacement, value, count=0 if everywhere else 1)


def _check_length(value: str) -> None:
    if len(value) > LONGEST_MATCHED:
        raise InvalidError(
            f"a value of {len(value)} characters is too long for a pattern", why=f"{LONGEST_MATCHED} are the most"
        )


def _strip_start(value: str, pattern: str, *, longest: bool) -> str:
    match = re.match(_pattern(pattern, greedy=longest), value, re.DOTALL)
    return value if match is None else value[match.end() :]


def _strip_end(value: str, pattern: str, *, longest: bool) -> str:
    compiled = re.compile(_pattern(pattern), re.DOTALL)
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    return next((value[:start] for start in starts if compiled.fullmatch(value, start)), value)


def _pattern(glob: str, *, greedy: bool = True) -> str:
    """A pattern of the shell as a regular expression. What follows each * but the last is looked for once and not again,
    so that no pattern takes long."""
    pieces = [""]
    position = 0
    while position < len(glob):
        character = glob[position]
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        else:
            if character == "\\" and position + 1 < len(glob):
                position += 1
            pieces[-1] += re.escape(glob[position])
        position += 1
    first, *rest = pieces
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    last = (".*" if greedy else ".*?") + rest[-1] if rest else ""
    return f"(?s:{first}{middle}{last})"
