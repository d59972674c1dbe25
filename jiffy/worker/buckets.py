"""Buckets of one container: each a filesystem of rclone's, on this host, at a folder that the container has too.

Files are read in parts and written from begin to end, as with Mountpoint for S3: what is written is in the bucket when
the file is closed. What goes wrong between here and the bucket is told in the container's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jiffy.core.actions import BucketMount
from jiffy.errors import JiffyError, UnavailableError, UnsupportedError
from jiffy.fs.mount import unmount
from jiffy.runtime.bundle import BindMount
from jiffy.runtime.process import end_with_parent

logger = logging.getLogger(__name__)

PROGRAM: Final = "rclone"
_READY_SECONDS: Final = 20.0
_END_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_FRESH: Final = "1s"
"""How long what is known of a folder is taken to be so."""
_HOPELESS: Final = re.compile(
    r"(NoSuchBucket|InvalidAccessKeyId|SignatureDoesNotMatch|RequestError): .*?(?= status code| \d{4}/|$)"
)
"""What is not mended by waiting. That a question is not allowed says nothing."""

Tell = Callable[[str], None]


class Bucket:
    """One bucket of a container. `tell` takes lines for the container's log."""

    def __init__(self, order: BucketMount, at: Path, tell: Tell) -> None:
        self._order = order
        self._at = at
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._telling: asyncio.Task[None] | None = None

    async def open(self) -> BindMount:
        """Mount it; UnavailableError when that cannot be done in time."""
        if shutil.which(PROGRAM) is None:
            raise UnsupportedError(
                "this host cannot mount buckets", why=f"{PROGRAM} is missing", hint="apt-get install rclone fuse3"
            )
        await self._check()
        self._at.mkdir()
        self._process = await asyncio.create_subprocess_exec(
            *self._command(),
            env=_environment(self._order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        self._telling = asyncio.ensure_future(self._pass_on(self._process))
        await self._await_mount(self._process)
        return BindMount(self._at, self._order.target, self._order.read_only, follows=True)

    async def close(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            logger.error("the mount of bucket %s does not end: it is killed", self._order.bucket)
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(JiffyError, OSError):  # it unmounts by itself, unless it was killed
            unmount(self._at)
        if self._telling is not None:
            await self._telling

    async def _check(self) -> None:
        """Ask the bucket something small: a mount of one that is not there would only seem to be empty."""
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "backend", "versioning", f":s3:{self._order.bucket}", "--config=", "--retries=1"),
            env=_environment(self._order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
        _, said = await process.communicate()
        words = " ".join(said.decode(errors="replace").split())
        if process.returncode and (known := _HOPELESS.search(words)):
            raise UnavailableError(f"bucket {self._order.bucket} cannot be mounted", why=known[0])

    def _command(self) -> list[str]:
        prefix = self._order.prefix.strip("/")
        remote = f":s3:{self._order.bucket}" + (f"/{prefix}" if prefix else "")
        options = ["--allow-other", "--vfs-cache-mode=off", f"--dir-cache-time={_FRESH}", f"--attr-timeout={_FRESH}"]
        options += ["--poll-interval=0", "--log-level=ERROR", "--config="]
        return [PROGRAM, "mount", remote, str(self._at), *options, *(["--read-only"] if self._order.read_only else [])]

    async def _await_mount(self, process: asyncio.subprocess.Process) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        while not await asyncio.to_thread(self._at.is_mount):
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"bucket {self._order.bucket} is not mounted", why="the log says more")
            await asyncio.sleep(_POLL_SECONDS)

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            words = line.decode(errors="replace").partition(" : ")[2] or line.decode(errors="replace")
            self._tell(f"jiffy: bucket {self._order.bucket}: {words.strip()}\n")


class Buckets:
    """All buckets of a container, below a folder."""

    def __init__(self, orders: Sequence[BucketMount], folder: Path, tell: Tell) -> None:
        self._buckets = [Bucket(order, folder / f"bucket{number}", tell) for number, order in enumerate(orders)]

    async def open(self) -> list[BindMount]:
        return [await bucket.open() for bucket in self._buckets]

    async def close(self) -> None:
        await asyncio.gather(*(bucket.close() for bucket in self._buckets))


def _environment(order: BucketMount) -> dict[str, str]:
    """Settings of rclone's: secrets are no arguments, which others on the host could read. What this host has for AWS is not
    for containers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    if authorities := os.environ.get("AWS_CA_BUNDLE"):
        kept["RCLONE_CA_CERT"] = authorities
    settings = {
        "PROVIDER": "AWS" if not order.endpoint else "Other",
        "ENDPOINT": order.endpoint,
        "REGION": order.credentials.get("AWS_REGION", "") or ("" if order.endpoint else "us-east-1"),
        "ACCESS_KEY_ID": order.credentials.get("AWS_ACCESS_KEY_ID", ""),
        "SECRET_ACCESS_KEY": order.credentials.get("AWS_SECRET_ACCESS_KEY", ""),
        "SESSION_TOKEN": order.credentials.get("AWS_SESSION_TOKEN", ""),
        "FORCE_PATH_STYLE": str(order.path_style or bool(order.endpoint)).lower(),
        "REQUESTER_PAYS": str(order.requester_pays).lower(),
        "NO_CHECK_BUCKET": "true",
        "NO_HEAD": "true",
        "ENV_AUTH": "false",
    }
    return {**kept, **{f"RCLONE_S3_{name}": value for name, value in settings.items() if value}}
