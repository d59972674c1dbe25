"""Python bytecode for trees that no installer compiled, for the Python that will import them.

The bytecode is marked as unchecked: an import reads it without looking at its source, which an index cannot change.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError, UnavailableError
from jiffy.image.base_python import FOLDER
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

_COMPILE: Final = ("-I", "-m", "compileall", "-q", "-p", "/", "--invalidation-mode", "unchecked-hash")
_SOME_FAILED: Final = 1
"""A package may hold files for other Pythons; they go without bytecode."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles for a Python such as 3.11: with one of this host if it has it, else with the one in an image, which is
    `program` in its layers (bottom first)."""

    series: str
    layers: tuple[Digest, ...]
    program: str
    objects: LocalObjects

    async def compile(self, tree: Path, scratch: Path) -> bool:
        """Compile all of a tree in place, as if it were the root. False when there is no way to run such a Python here.
        `scratch` is an empty folder."""
        interpreter = await asyncio.to_thread(_find_interpreter, self.series)
        if interpreter is not None:
            command: tuple[str, ...] = (interpreter, *_COMPILE, "-j", "0", "-s", str(tree), str(tree))
        elif os.geteuid() == 0:
            command = (*self._base_python(tree, scratch), *_COMPILE, "-s", FOLDER, FOLDER)
        else:
            return False
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode not in (0, _SOME_FAILED):
            raise JiffyError("bytecode could not be compiled", why=output.decode(errors="replace")[-300:])
        return True

    def _base_python(self, tree: Path, scratch: Path) -> tuple[str, ...]:
        return (
            *(sys.executable, "-m", "jiffy.image.base_python", "--objects", str(self.objects.root)),
            *("--scratch", str(scratch), "--folder", str(tree)),
            *(option for layer in self.layers for option in ("--layer", layer)),
            *("--", self.program),
        )


def _find_interpreter(series: str) -> str | None:
    """A program of this host that is Python `series`. One that is found but does not run, such as a version manager's
    placeholder, is none."""
    if series == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    program = shutil.which(f"python{series}")
    if program is None or subprocess.run([program, "-I", "-c", ""], capture_output=True, check=False).returncode:
        return None
    return program


async def run_pip(*arguments: str) -> None:
    """Run pip with this host's configuration. UnavailableError with its last line when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode != 0:
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.startswith("ERROR")]
        raise UnavailableError(
            "Python packages for containers cannot be had",
            why=lines[-1] if lines else f"pip ended with code {process.returncode}",
            hint="is a Python index reachable? pip's own configuration names it",
        )
