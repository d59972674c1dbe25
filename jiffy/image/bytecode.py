"""Python bytecode for trees that no installer compiled, for the Python that will import them.

The bytecode is marked as unchecked: an import reads it without looking at its source, which an index cannot change.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from jiffy.errors import JiffyError, UnavailableError


def find_interpreter(series: str) -> str | None:
    """A program of this host that is Python `series`, such as 3.11."""
    if series == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return shutil.which(f"python{series}")


async def compile_tree(tree: Path, series: str) -> bool:
    """Compile all of a tree in place, as if it were the root. False when this host has no such Python."""
    interpreter = find_interpreter(series)
    if interpreter is None:
        return False
    command = [interpreter, "-I", "-m", "compileall", "-q", "-j", "0", "-s", str(tree), "-p", "/"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--invalidation-mode", "unchecked-hash", str(tree)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode not in (0, 1):
        raise JiffyError("bytecode could not be compiled", why=output.decode(errors="replace")[-300:])
    return True


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
