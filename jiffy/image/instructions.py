"""What the instructions of a Dockerfile mean: one kind of value for each. Variables are expanded when they are carried out,
as what they stand for depends on what came before."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.dockerfile import Heredoc, Instruction, read_json_words
from jiffy.image.durations import parse_duration
from jiffy.image.words import split_pair, split_words


@dataclass(frozen=True, slots=True)
class From:
    """`name` is what later instructions may call the stage."""

    at: Instruction
    reference: str
    name: str
    platform: str


@dataclass(frozen=True, slots=True)
class Argument:
    """ARG: names with their defaults, None where there is none. Not expanded."""

    at: Instruction
    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """ENV or LABEL: names and values, not expanded."""

    at: Instruction
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Command:
    """RUN, CMD, ENTRYPOINT, SHELL: words in JSON form, or else one line for the shell."""

    at: Instruction
    words: tuple[str, ...] | None
    line: str = ""
    mounts: tuple[Mapping[str, str], ...] = ()
    network: str = "default"


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, and ADD where `at.keyword` says so. Sources are paths or here-documents."""

    at: Instruction
    sources: tuple[str | Heredoc, ...]
    target: str
    stage: str = ""
    owner: str = ""
    mode: str = ""
    link: bool = False
    parents: bool = False
    excluded: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None
    keep_git: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """WORKDIR, USER, STOPSIGNAL, EXPOSE, VOLUME: values, not expanded."""

    at: Instruction
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Kept for those that export the image; `test` and `options` as in an image's configuration, times in nanoseconds."""

    at: Instruction
    test: tuple[str, ...]
    options: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OnBuild:
    """An instruction for images that are built from this one."""

    at: Instruction
    text: str


Meaning = From | Argument | Pairs | Command | Copy | Words | HealthCheck | OnBuild

_FLAGS: Final[Mapping[str, frozenset[str]]] = {
    "FROM": frozenset({"platform"}),
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "ADD": frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
_REPEATED: Final = frozenset({"mount", "exclude", "device"})
_BARE: Final = frozenset({"link", "parents", "keep-git-dir", "unpack"})


def read_instruction(at: Instruction) -> Meaning | None:
    """What an instruction means; None for one that has no meaning any more. DockerfileError where it makes no sense."""
    read = _READERS.get(at.keyword)
    if read is None:
        raise at.error(f"unknown instruction {at.keyword}", hint=_suggest(at.keyword))
    _check_flags(at)
    if not at.text:
        raise at.error(f"{at.keyword} needs something after it")
    try:
        return read(at)
    except InvalidError as error:
        if hasattr(error, "line"):
            raise
        raise at.error(error.what, why=error.why, hint=error.hint) from error


def _suggest(keyword: str) -> str:
    close = difflib.get_close_matches(keyword, _READERS, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def _check_flags(at: Instruction) -> None:
    seen: set[str] = set()
    for name, value in at.flags:
        if name not in _FLAGS.get(at.keyword, ()):
            raise at.error(f"{at.keyword} has no flag --{name}")
        if name in seen and name not in _REPEATED:
            raise at.error(f"--{name} is there twice")
        if not value and name not in _BARE:
            raise at.error(f"--{name} needs a value", hint=f"write --{name}=...")
        seen.add(name)


def _flag(at: Instruction, name: str, default: str = "") -> str:
    return next((value for flag, value in at.flags if flag == name), default)


def _switch(at: Instruction, name: str) -> bool | None:
    for flag, value in at.flags:
        if flag == name:
            if value.lower() not in ("", "true", "false"):
                raise at.error(f"--{name}={value}", why="it is true or false")
            return value.lower() != "false"
    return None


def _read_from(at: Instruction) -> From:
    words = at.text.split()
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not name[0].isalpha() or not all(letter.isalnum() or letter in "-_." for letter in name):
            raise at.error(f"a stage cannot be called {words[2]!r}")
        return From(at, words[0], name, _flag(at, "platform"))
    if len(words) != 1:
        raise at.error(f"`{at.source}` makes no sense", hint="write FROM IMAGE, or FROM IMAGE AS NAME")
    return From(at, words[0], "", _flag(at, "platform"))


def _read_argument(at: Instruction) -> Argument:
    pairs: list[tuple[str, str | None]] = []
    for word in split_words(at.text, at.escape):
        name, value = split_pair(word, at.escape) or (word, None)
        if not name:
            raise at.error(f"`{word}` has no name before its =")
        pairs.append((name, value))
    return Argument(at, tuple(pairs))


def _read_pairs(at: Instruction) -> Pairs:
    words = split_words(at.text, at.escape)
    first = split_pair(words[0], at.escape)
    if first is None:
        name, *_ = words
        value = at.text[len(name) :].strip()
        if not value:
            raise at.error(f"{at.keyword} {name} has no value", hint=f"write {at.keyword} {name}=VALUE")
        return Pairs(at, ((name, value),))
    pairs = []
    for word in words:
        pair = split_pair(word, at.escape)
        if pair is None or not pair[0]:
            raise at.error(f"cannot read `{word}`", hint=f"write {at.keyword} NAME=VALUE, values with blanks in quotes")
        pairs.append(pair)
    return Pairs(at, tuple(pairs))


def _read_command(at: Instruction) -> Command:
    words = read_json_words(at.text)
    if words == () and at.keyword in ("RUN", "SHELL"):
        raise at.error(f"{at.keyword} [] has no words")
    if at.keyword == "SHELL" and words is None:
        raise at.error("SHELL takes words in JSON form", hint='such as SHELL ["/bin/bash", "-c"]')
    mounts = tuple([_read_mount(at, value) for name, value in at.flags if name == "mount"])
    network = _flag(at, "network", "default")
    if network not in ("default", "none", "host"):
        raise at.error(f"--network={network}", why="it is default, none or host")
    for name, refused in (("security", "insecure"), ("network", "host")):
        if _flag(at, name) == refused:
            raise at.error(
                f"--{name}={refused} is not to be had", why="build steps are contained as all containers are"
            )
    return Command(at, words, "" if words is not None else at.text, mounts, network)


def _read_mount(at: Instruction, text: str) -> Mapping[str, str]:
    """Fields of --mount, such as type=cache,target=/x; a name alone is a switch."""
    fields = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        fields[_MOUNT_NAMES.get(name.lower(), name.lower())] = value if separator else "true"
    kind = fields.setdefault("type", "bind")
    if kind not in _MOUNT_FIELDS:
        raise at.error(f"--mount=type={kind}", why=f"the kinds are {', '.join(_MOUNT_FIELDS)}")
    unknown = set(fields) - _MOUNT_FIELDS[kind] - {"type", "target"}
    if unknown:
        raise at.error(f"--mount=type={kind} has no field {min(unknown)}")
    if kind in ("bind", "cache", "tmpfs") and not fields.get("target"):
        raise at.error(f"--mount=type={kind} needs target=")
    return fields


_MOUNT_NAMES: Final = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
_MOUNT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "bind": frozenset({"source", "from", "readonly", "readwrite"}),
    "cache": frozenset({"id", "source", "from", "readonly", "readwrite", "sharing", "mode", "uid", "gid"}),
    "tmpfs": frozenset({"size"}),
    "secret": frozenset({"id", "env", "required", "mode", "uid", "gid"}),
    "ssh": frozenset({"id", "required", "mode", "uid", "gid"}),
}


def _read_copy(at: Instruction) -> Copy:
    text, documents = _name_documents(at)
    words: list[str] = list(read_json_words(text) or split_words(text, at.escape))
    if len(words) < 2:
        raise at.error(f"{at.keyword} needs a source and a target")
    *sources, target = words
    return Copy(
        at=at,
        sources=tuple([documents.get(source, source) for source in sources]),
        target=target,
        stage=_flag(at, "from"),
        owner=_flag(at, "chown"),
        mode=_flag(at, "chmod"),
        link=bool(_switch(at, "link")),
        parents=bool(_switch(at, "parents")),
        excluded=tuple([value for name, value in at.flags if name == "exclude"]),
        checksum=_flag(at, "checksum"),
        unpack=_switch(at, "unpack"),
        keep_git=bool(_switch(at, "keep-git-dir")),
    )


def _name_documents(at: Instruction) -> tuple[str, dict[str, Heredoc]]:
    """The text with here-documents as words without blanks or quotes, and which those are."""
    text, documents = at.text, {}
    for number, document in enumerate(at.heredocs):
        text = text.replace(document.marker, f"<<{number}", 1)
        documents[f"<<{number}"] = document
    return text, documents


def _read_words(at: Instruction) -> Words:
    if at.keyword == "VOLUME" and (words := read_json_words(at.text)) is not None:
        return Words(at, words)
    if at.keyword in ("EXPOSE", "VOLUME"):
        return Words(at, tuple(split_words(at.text, at.escape)))
    return Words(at, (at.text,))


_HEALTH_OPTIONS: Final = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
    "retries": "Retries",
}
_LEAST_NANOSECONDS: Final = 10**6


def _read_health_check(at: Instruction) -> HealthCheck:
    kind, _, rest = at.text.partition(" ")
    if kind.upper() == "NONE" and not rest:
        return HealthCheck(at, ("NONE",), {})
    if kind.upper() != "CMD" or not rest.strip():
        raise at.error(f"`{at.source}` makes no sense", hint="write HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE")
    words = read_json_words(rest)
    test = ("CMD", *words) if words is not None else ("CMD-SHELL", rest.strip())
    return HealthCheck(
        at, test, {_HEALTH_OPTIONS[name]: _read_health_option(at, name, text) for name, text in at.flags}
    )


def _read_health_option(at: Instruction, name: str, text: str) -> int:
    """Nanoseconds, or how many times."""
    if name == "retries":
        if not text.isdecimal():
            raise at.error(f"--retries={text}", why="it is a number")
        return int(text)
    try:
        nanoseconds = parse_duration(text)
    except InvalidError as error:
        raise at.error(f"--{name}: {error}") from None
    if 0 < nanoseconds < _LEAST_NANOSECONDS:
        raise at.error(f"--{name}={text} is too short", why="the least is 1ms")
    return nanoseconds


def _read_on_build(at: Instruction) -> OnBuild:
    keyword = at.text.split()[0].upper()
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise at.error(f"ONBUILD cannot be followed by {keyword}")
    if keyword not in _READERS:
        raise at.error(f"unknown instruction {keyword}", hint=_suggest(keyword))
    return OnBuild(at, at.text)


def _ignore(at: Instruction) -> None:
    return None


_READERS: Final[Mapping[str, Callable[[Instruction], Meaning | None]]] = {
    "FROM": _read_from,
    "ARG": _read_argument,
    "ENV": _read_pairs,
    "LABEL": _read_pairs,
    "RUN": _read_command,
    "CMD": _read_command,
    "ENTRYPOINT": _read_command,
    "SHELL": _read_command,
    "COPY": _read_copy,
    "ADD": _read_copy,
    "WORKDIR": _read_words,
    "USER": _read_words,
    "EXPOSE": _read_words,
    "VOLUME": _read_words,
    "STOPSIGNAL": _read_words,
    "HEALTHCHECK": _read_health_check,
    "ONBUILD": _read_on_build,
    "MAINTAINER": _ignore,
}
