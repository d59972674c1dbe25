"""What is made of a runtime's answers, with runtimes that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.errors import JiffyError
from jiffy.runtime import console as console_module
from jiffy.runtime import oci as oci_module
from jiffy.runtime.oci import Runtime
from jiffy.runtime.process import adopt_orphans

NOTHING = asyncio.subprocess.DEVNULL
READ_OPTIONS = """
while [ $# -gt 0 ]; do
    case $1 in
        --pid-file) pid_file=$2 ;;
        --log) log=$2 ;;
    esac
    shift
done
"""
STARTS = """
sleep 1000 &
echo $! > "$pid_file"
"""


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    adopt_orphans()
    yield
    adopt_orphans(False)


class Folders:
    """A runtime that is a script, and a folder for a command."""

    def __init__(self, root: Path) -> None:
        self.command = root / "command"
        self.command.mkdir()
        self._program = root / "program"

    def runtime(self, script: str) -> Runtime:
        self._program.write_text(f"#!/bin/sh{READ_OPTIONS}{script}")
        self._program.chmod(0o755)
        return Runtime("misbehaving", str(self._program), self._program.parent / "state")

    @property
    def started(self) -> int:
        return int((self.command / "pid").read_text())


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


async def join(folders: Folders, script: str) -> int:
    process = await folders.runtime(script).join("ta-1", {}, folders.command, (NOTHING, NOTHING, NOTHING))
    process.signal(9)
    return await process.wait()


async def test_what_a_runtime_starts_is_known_by_its_process(folders: Folders) -> None:
    assert await join(folders, STARTS) == 137


async def test_a_runtime_that_fails_is_told_by_its_last_words(folders: Folders) -> None:
    with pytest.raises(JiffyError, match=r"^no such program$"):
        await join(folders, "printf 'a warning\\nno such program\\n' > \"$log\"; exit 1")


async def test_one_that_says_nothing_is_told_by_its_code(folders: Folders) -> None:
    with pytest.raises(JiffyError, match="misbehaving ended with 3"):
        await join(folders, "exit 3")


async def test_one_that_hangs_is_killed(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_module, "_START_SECONDS", 0.1)
    with pytest.raises(JiffyError, match=r"misbehaving did not end within 0\.1 s"):
        await join(folders, 'echo $$ > "$pid_file"; exec sleep 1000')
    if (folders.command / "pid").exists():
        await until_gone(folders.started)


async def test_a_command_whose_terminal_is_not_delivered_is_killed(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "_SECONDS", 0.05)
    with pytest.raises(JiffyError, match="delivered no terminal"):
        await folders.runtime(STARTS).join_at_terminal("ta-1", {}, folders.command)
    await until_gone(folders.started)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)
