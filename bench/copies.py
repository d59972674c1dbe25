"""The limit: the runtime alone on a plain copy of a root."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.hosts import PATH, PAUSE, Start
from jiffy.errors import JiffyError
from jiffy.image.index import Entry, Index, Kind
from jiffy.objects.local import LocalObjects


def unpack(indexes: Sequence[Index], objects: LocalObjects, target: Path) -> None:
    """Copy trees (bottom first) into a folder."""
    for index in indexes:
        for entry in index:
            _place(entry, objects, target / os.fsdecode(entry.path).lstrip("/"))


def _place(entry: Entry, objects: LocalObjects, path: Path) -> None:
    match entry.kind:
        case Kind.DIRECTORY:
            path.mkdir(exist_ok=True)
        case Kind.SYMLINK:
            path.symlink_to(os.fsdecode(entry.target))
        case Kind.FILE:
            if entry.digest:
                shutil.copyfile(objects.path(entry.digest), path)
            else:
                path.touch()
            path.chmod(entry.mode)


def make_bundle(copy: Path, bundle: Path, argv: Sequence[str]) -> Path:
    """A bundle with the runtime's own default configuration."""
    bundle.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (bundle / "config.json").unlink()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    configuration = json.loads((bundle / "config.json").read_text())
    configuration["root"] = {"path": str(copy), "readonly": False}
    configuration["process"].update(terminal=False, args=list(argv), env=[f"PATH={PATH}"])
    configuration["process"].pop("rlimits", None)
    (bundle / "config.json").write_text(json.dumps(configuration))
    return bundle


async def start_copy(bundle: Path) -> Start:
    """On a host that is open, as the others find it."""
    await asyncio.sleep(PAUSE)
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("crun", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), "jiffy-bench-peer"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = await process.stdout.read(1)
    milliseconds = (time.perf_counter() - started) * 1000
    _, errors = await process.communicate()
    if not first or process.returncode != 0:
        raise JiffyError("crun did not start its container", why=errors.decode(errors="replace"))
    return Start(milliseconds)
