"""OCI runtimes behind one interface. crun is preferred: it starts several times faster than runc.

The runtime's own process is gone once a container runs. The worker adopts orphans, so the container's first process becomes
its child, and it can wait for the exit status as for any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jiffy.errors import JiffyError, UnsupportedError
from jiffy.fs.mount import bind_mount, mount_tmpfs, unmount
from jiffy.runtime.bundle import ContainerSpec, write_bundle
from jiffy.runtime.cgroups import ROOT, Layout, find_layout
from jiffy.runtime.console import Console
from jiffy.runtime.process import Process, reap_helpers

_PREFERRED: Final = ("crun", "runc")
_START_SECONDS: Final = 30.0
_HELPER_SECONDS: Final = 0.5


class Runtime:
    """One OCI runtime. `state` is a folder where it remembers its containers."""

    def __init__(self, name: str, program: str, state: Path) -> None:
        self.name = name
        self._command = (program, "--root", str(state))
        self._reaping: asyncio.TimerHandle | None = None
        self._reap_at = 0.0
        self._starting = 0

    async def start(self, spec: ContainerSpec, bundle: Path, stdout: int, stderr: int) -> Process:
        """Start a container; returns when its process runs. JiffyError with the runtime's words when it does not."""
        write_bundle(spec, bundle)
        arguments = ("run", "--bundle", str(bundle), spec.identifier)
        try:
            return await self._begin(bundle, arguments, (asyncio.subprocess.DEVNULL, stdout, stderr))
        except JiffyError as error:
            await self.delete(spec.identifier)
            raise JiffyError(f"{self.name} did not start the container", why=str(error)) from error
        except BaseException:
            await self.delete(spec.identifier)
            raise

    async def join(
        self, identifier: str, process: Mapping[str, Any], folder: Path, stdio: tuple[int, int, int]
    ) -> Process:
        """Start a process as described in a container that runs. `folder` is an empty one for this."""
        description = folder / "process.json"
        description.write_text(json.dumps(process))
        return await self._begin(folder, ("exec", "--process", str(description), identifier), stdio)

    async def join_at_terminal(self, identifier: str, process: Mapping[str, Any], folder: Path) -> tuple[Process, int]:
        """The same at a terminal of its own; gives our end of that too."""
        description = folder / "process.json"
        description.write_text(json.dumps(process))
        nothing = asyncio.subprocess.DEVNULL
        with Console(folder) as console:
            arguments = ("exec", "--process", str(description), "--console-socket", console.path, identifier)
            started = await self._begin(folder, arguments, (nothing, nothing, nothing))
            try:
                return started, console.take()
            except JiffyError:
                started.signal(signal.SIGKILL)
                raise

    async def _begin(self, folder: Path, arguments: Sequence[str], stdio: tuple[int, int, int]) -> Process:
        """What the runtime starts, once it runs and the runtime itself is gone."""
        pid_file, log = folder / "pid", folder / "runtime.log"
        runtime = await asyncio.create_subprocess_exec(
            *(*self._command, "--log", str(log), arguments[0], "--detach", "--pid-file", str(pid_file), *arguments[1:]),
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
        )
        self._starting += 1
        try:
            code = await asyncio.wait_for(runtime.wait(), _START_SECONDS)
            if code != 0:
                raise JiffyError(_last_line(log) or f"{self.name} ended with {code}")
            return Process(int(pid_file.read_text()))
        except TimeoutError:
            runtime.kill()
            raise JiffyError(f"{self.name} did not end within {_START_SECONDS:g} s") from None
        except asyncio.CancelledError:
            runtime.kill()
            raise
        finally:
            self._starting -= 1
            self._reap_helpers_later()

    def _reap_helpers_later(self) -> None:
        """Once for all that are started meanwhile: it looks at every child of this process."""
        loop = asyncio.get_running_loop()
        self._reap_at = loop.time() + _HELPER_SECONDS
        if self._reaping is None:
            self._reaping = loop.call_at(self._reap_at, self._reap_helpers)

    def _reap_helpers(self) -> None:
        loop = asyncio.get_running_loop()
        if self._starting:
            self._reap_at = loop.time() + _HELPER_SECONDS
        is_last = loop.time() >= self._reap_at
        self._reaping = None if is_last else loop.call_at(self._reap_at, self._reap_helpers)
        if not self._starting:
            reap_helpers()

    async def delete(self, identifier: str) -> None:
        """Kill and forget a container; nothing happens when it is unknown."""
        with contextlib.suppress(JiffyError):
            await self._run("delete", "--force", identifier)

    async def _run(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise JiffyError(f"{self.name} {arguments[0]} failed", why=errors.decode(errors="replace").strip())


def choose_runtime(state: Path) -> Runtime:
    """The best runtime that is installed."""
    state.mkdir(parents=True, exist_ok=True)
    for name in _PREFERRED:
        if (program := shutil.which(name)) is not None:
            return Runtime(name, program, state)
    raise UnsupportedError("no OCI runtime is installed", hint="install crun or runc")


def hide_empty_hierarchy(scratch: Path) -> None:
    """In a private mount namespace: make a hybrid layout of control groups look like version 1, which crun wants. `scratch`
    is an empty folder."""
    if find_layout() is not Layout.HYBRID:
        return
    mount_tmpfs(scratch)
    for hierarchy in ROOT.iterdir():
        twin = scratch / hierarchy.name
        if hierarchy.is_symlink():
            twin.symlink_to(hierarchy.readlink())
        elif hierarchy.is_dir() and hierarchy.name != "unified":
            twin.mkdir()
            bind_mount(hierarchy, twin)
    bind_mount(scratch, ROOT)
    unmount(scratch)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""
