"""Machines that are network namespaces of this host, each with a data directory and a worker of its own: to try a fleet.

A machine is its worker's process, joined to the host by a pair of interfaces that ends with it. So nothing is left when it
ends, however it ends, but its folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from jiffy.datadir import DataDirectory
from jiffy.errors import ExhaustedError, UnavailableError
from jiffy.fleet.base import Join, Kind
from jiffy.jobs import Jobs
from jiffy.locks import lock_holder
from jiffy.runtime import cgroups
from jiffy.runtime.namespaces import run

logger = logging.getLogger(__name__)

_NETWORK: Final = ipaddress.ip_network("10.97.0.0/16")
_WAIT: Final = ("sh", "-c", 'read -r go && exec "$@"', "sh")
"""Holds a process back until its network is there; when nobody makes it, the process ends."""

_END_SECONDS: Final = 30.0
_NAMESPACE_SECONDS: Final = 10.0


class LocalProvider:
    """Machines have folders in `folder`. A gate at an unspecified address (0.0.0.0) is reached at the host's end of each
    machine's link."""

    look_seconds: Final = 1.0
    appears_seconds: Final = 5.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starting: dict[str, Process] = {}
        self._jobs = Jobs()

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        data = DataDirectory(self._folder / machine_id)
        data.create()
        here, there = await _free_addresses()
        offer = kind.offer
        size = ("--cpus", f"{offer.cpu_millis / 1000:g}", "--memory", str(offer.memory_bytes))
        servers = tuple(_reachable(server, here) for server in join.servers)
        options = Join(servers, join.token, join.labels, join.orphan_seconds).options()
        command = [*_WAIT, sys.executable, "-m", "jiffy", "worker", "--data", str(data.root), *size, *options]
        with (data.logs / "worker.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *("unshare", "--net", *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "JIFFY_WORKER_TOKEN": join.token},
            )
        self._starting[machine_id] = process
        await _connect(process.pid, data.instance, here, there)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()

    async def running(self) -> Collection[str]:
        found = {machine_id for machine_id, process in self._starting.items() if process.returncode is None}
        if self._folder.exists():
            for folder in self._folder.iterdir():
                if lock_holder(DataDirectory(folder).worker_lock) is not None:
                    found.add(folder.name)
                elif folder.name not in found:
                    await self._sweep(folder)
        return found

    async def end(self, machine_id: str) -> None:
        data = DataDirectory(self._folder / machine_id)
        self._jobs.begin(self._end(machine_id, data))

    async def close(self) -> None:
        await self._jobs.cancel()

    async def _sweep(self, folder: Path) -> None:
        """A machine takes all that ran there with it, also when its worker was killed."""
        self._starting.pop(folder.name, None)
        await cgroups.remove_group(cgroups.parent_group(DataDirectory(folder).instance))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _end(self, machine_id: str, data: DataDirectory) -> None:
        deadline = asyncio.get_running_loop().time() + _END_SECONDS
        number = signal.SIGTERM
        while (pid := self._pid(machine_id, data)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if asyncio.get_running_loop().time() > deadline:
                number = signal.SIGKILL
            await asyncio.sleep(1)

    def _pid(self, machine_id: str, data: DataDirectory) -> int | None:
        process = self._starting.get(machine_id)
        if process is not None and process.returncode is None:
            return process.pid
        return lock_holder(data.worker_lock)


async def _free_addresses() -> tuple[str, str]:
    """Both ends of a link that no other has: of the host's, and of the machine's."""
    links = json.loads(await run("ip", "-json", "-4", "address", "show"))
    taken = {info["local"] for link in links for info in link["addr_info"]}
    for network in _NETWORK.subnets(new_prefix=30):
        here, there = network.hosts()
        if str(here) not in taken:
            return str(here), str(there)
    raise ExhaustedError("no network is left for a machine of this host")


async def _connect(pid: int, instance: str, here: str, there: str) -> None:
    """Two interfaces: one of the host, and eth0 in the namespace of a process."""
    await _await_namespace(pid)
    name = f"jiffy-m{instance}"
    await run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    await run("ip", "address", "add", f"{here}/30", "dev", name)
    await run("ip", "link", "set", name, "up")
    lines = (
        "link set lo up",
        f"address add {there}/30 dev eth0",
        "link set eth0 up",
        f"route add default via {here}",
    )
    for line in lines:
        await run("nsenter", "-t", str(pid), "-n", "ip", *line.split())


async def _await_namespace(pid: int) -> None:
    here, deadline = Path("/proc/self/ns/net").readlink(), asyncio.get_running_loop().time() + _NAMESPACE_SECONDS
    while True:
        try:
            if Path(f"/proc/{pid}/ns/net").readlink() != here:
                return
        except FileNotFoundError as error:
            raise UnavailableError("a machine of this host ended at once") from error
        if asyncio.get_running_loop().time() > deadline:
            raise UnavailableError(
                "a machine of this host has no network of its own", hint="does `unshare --net` work?"
            )
        await asyncio.sleep(0.01)


def _reachable(server: str, here: str) -> str:
    parts = urlsplit(server)
    return server if parts.hostname not in ("0.0.0.0", "::") else f"{parts.scheme}://{here}:{parts.port}"
