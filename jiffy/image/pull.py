"""`python -m jiffy.image.pull`: import an image of a registry into a data directory, for a server.

A process of its own: what it reads may be hostile, and what it computes would keep the server from answering. It takes an
order as JSON on standard input and writes lines of JSON: progress, and at last what was imported or why it was not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from jiffy import errors
from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError, UnavailableError
from jiffy.image.importing import Imported, KnownLayers, Progress
from jiffy.image.manifest import parse_platform
from jiffy.image.origins import Access, import_origin, parse_origin
from jiffy.image.registry import Credentials
from jiffy.objects.local import LocalObjects

_TELL_SECONDS: Final = 0.5
_LINE_BYTES: Final = 16 * 2**20
_ALLOCATION: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**29),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
}
"""Pieces of a MiB come and go by the thousand. Given back to the kernel each time, their pages cost more than what is done
with them."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
def main(data: Path) -> None:
    text = sys.stdin.read()
    if not text:
        return  # nobody needs it any more
    order = json.loads(text)
    try:
        imported = asyncio.run(_run(DataDirectory(data), order))
    except JiffyError as error:
        fields = {"kind": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint}
        _write({"error": fields})
        sys.exit(1)
    _write({"imported": asdict(imported)})


async def _run(data: DataDirectory, order: dict[str, Any]) -> Imported:
    objects = LocalObjects(data.objects, data.incoming)
    credentials = Credentials(**order["credentials"]) if order["credentials"] else None
    access = Access(parse_platform(order["platform"]), credentials, order["mirrors"], data.remote)
    origin = parse_origin(f"docker://{order['reference']}")
    return await import_origin(origin, access, objects, KnownLayers(data.layers, objects), Progress(tell=_teller()))


def _teller() -> Any:
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            numbers = {name: getattr(progress, name) for name in ("total", "read", "known", "files")}
            _write({"progress": numbers})

    return tell


def _write(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


class Pulls:
    """Runs the program for a data directory. After the first time, the next process is there already and waits for
    its order: to start one takes as long as to read a small layer."""

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._spare: asyncio.Task[Process] | None = None
        self._is_closed = False

    async def pull(
        self, reference: str, platform: str, credentials: Credentials | None, mirrors: Mapping[str, str]
    ) -> AsyncIterator[Progress | Imported]:
        """Gives progress from time to time, and at last what was imported. Left early, the process ends."""
        order = {
            "reference": reference,
            "platform": platform,
            "credentials": asdict(credentials) if credentials is not None else None,
            "mirrors": dict(mirrors),
        }
        process = await self._take()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
            async for line in process.stdout:
                yield _read(json.loads(line))
            if await process.wait() < 0:
                raise UnavailableError(f"{reference} was not pulled", why="the process that did it was killed")
        finally:
            await _end(process)
            if self._spare is None and not self._is_closed:
                self._spare = asyncio.ensure_future(self._start())

    async def close(self) -> None:
        self._is_closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            await _end(await spare)

    async def _take(self) -> Process:
        """The process that waits, unless it has ended meanwhile."""
        spare, self._spare = self._spare, None
        process = await spare if spare is not None else None
        return process if process is not None and process.returncode is None else await self._start()

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jiffy.image.pull", "--data", str(self._data.root)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            env={**os.environ, **_ALLOCATION},
        )


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _read(told: dict[str, Any]) -> Progress | Imported:
    if "progress" in told:
        return Progress(**told["progress"])
    if "error" in told:
        fields = told["error"]
        kind = getattr(errors, fields["kind"], JiffyError)
        raise kind(fields["what"], why=fields["why"], hint=fields["hint"])
    fields = told["imported"]
    return Imported(**{**fields, "names": tuple(fields["names"]), "first": tuple(fields["first"])})


if __name__ == "__main__":
    main()
