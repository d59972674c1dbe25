"""What a command asks of its files: counted by strace, in a root that is mounted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError, UnsupportedError

_LINE: Final = re.compile(r"^(?:\d+\s+)?(?P<call>[a-z0-9_]+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
_PATH: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPENS: Final = ("open", "openat", "openat2")
_STATS: Final = ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat")


@dataclass(frozen=True, slots=True)
class Trace:
    """Counts of calls, those that found nothing, and the files that were opened."""

    stats: int
    stats_missed: int
    opens: int
    opens_missed: int
    opened: frozenset[str]
    exit_code: int


def trace_command(root: Path, command: Sequence[str]) -> Trace:
    """Run a command in a root, in namespaces of its own and without a network. Needs root and strace."""
    if shutil.which("strace") is None:
        raise UnsupportedError("strace is not installed", hint="apt-get install strace")
    log = root.parent / "trace"
    inside = ["chroot", str(root), *command]
    wrapped = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", *inside]
    ran = subprocess.run(
        ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-e", "signal=none", "-o", str(log), *wrapped],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if not log.exists():
        raise JiffyError("the command could not be traced", why=f"strace ended with {ran.returncode}")
    with log.open(errors="replace") as lines:
        return count_calls(lines, ran.returncode)


def count_calls(lines: Iterable[str], exit_code: int) -> Trace:
    """From strace's output. What comes before the command's own root is left out."""
    counts: Counter[str] = Counter()
    opened: set[str] = set()
    inside = False
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        if not inside:
            inside = match["call"] == "chroot" and match["result"] == "0"
            continue
        kind = "open" if match["call"] in _OPENS else "stat" if match["call"] in _STATS else ""
        if not kind:
            continue
        missed = match["result"].startswith("-")
        counts[kind] += 1
        counts[f"{kind} missed"] += missed
        if kind == "open" and not missed and (path := _PATH.search(match["arguments"])) is not None:
            opened.add(path[1])
    return Trace(
        counts["stat"], counts["stat missed"], counts["open"], counts["open missed"], frozenset(opened), exit_code
    )
