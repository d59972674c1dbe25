"""The Python of an image, found in its tree, and what it says of itself."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jiffy.image.index import Kind
from jiffy.image.tree import Tree

_NAMES: Final = ("python", "python3")
_FILE: Final = re.compile(rb"/python(\d+\.\d+t?)$")
QUESTION: Final = """
import importlib.metadata, json, os, platform, sys
musl = sorted(name for name in os.listdir("/lib") if name.startswith("ld-musl-")) if os.path.isdir("/lib") else []
packages = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions() if each.metadata["Name"]}
print(json.dumps({
    "series": "%d.%d" % sys.version_info[:2] + ("t" if "t" in getattr(sys, "abiflags", "") else ""),
    "version": platform.python_version(),
    "program": sys.executable,
    "libc": "musl" if musl else " ".join(platform.libc_ver()).strip(),
    "packages": packages,
}))
"""
"""A program that prints an answer as read_answer takes it."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`series` is such as 3.11; empty for an image without Python. `libc` is such as `glibc 2.36`, or musl."""

    series: str = ""
    version: str = ""
    program: str = ""
    libc: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)


def find_interpreter(tree: Tree, search_path: str) -> str:
    """Where the program `python`, or else `python3`, is found by PATH; empty when there is none."""
    for name in _NAMES:
        for folder in search_path.split(":"):
            path = posixpath.join("/", folder, name)
            entry = tree.find(path.encode("utf-8", "surrogateescape"))
            if entry is not None and entry.kind is Kind.FILE and entry.mode & 0o111:
                return path
    return ""


def guess_interpreter(tree: Tree, program: str) -> Interpreter:
    """What the names in a tree tell, where running it would fetch it."""
    match = _FILE.search(tree.resolve(program.encode("utf-8", "surrogateescape")))
    if match is None:
        return Interpreter()
    series = match[1].decode()
    musl = any(entry.path.startswith(b"/lib/ld-musl-") for entry in tree.below(b"/lib"))
    return Interpreter(series, series, program, "musl" if musl else "glibc")


def read_answer(text: str) -> Interpreter:
    """From the last line of what the program printed; an image whose Python does not run has none."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        answer = json.loads(lines[-1])
        return Interpreter(**{name: answer[name] for name in ("series", "version", "program", "libc", "packages")})
    except (IndexError, ValueError, KeyError, TypeError):
        return Interpreter()
