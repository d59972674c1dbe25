"""Hosts beside this one: network namespaces on a bridge, in which workers run with data directories of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jiffy.datadir import DataDirectory
from jiffy.locks import lock_holder
from tests.servers import JIFFY

_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which of those among which tests are divided: each has a bridge of its own."""

BRIDGE = f"jiffytest{_PROCESS}"
_NETWORK = f"10.98.{_PROCESS}"
NETWORK = f"{_NETWORK}.0/24"
GATEWAY = f"{_NETWORK}.1"
_CUT = """table inet cut {
    chain input { type filter hook input priority -300; policy drop; }
    chain output { type filter hook output priority -300; policy drop; }
}"""


@dataclass
class Host:
    """A network namespace, held by a process that sleeps there."""

    name: str
    address: str
    link: str
    holder: subprocess.Popen[bytes]
    data: DataDirectory
    worker: subprocess.Popen[bytes] | None = None

    def start_worker(self, *options: str) -> None:
        self.data.create()
        command = [*JIFFY, "worker", "--data", str(self.data.root), *options]
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                [*self.enter, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> Path:
        return self.data.logs / "worker.log"

    @property
    def worker_pid(self) -> int:
        pid = lock_holder(self.data.worker_lock)
        assert pid is not None
        return pid

    def stop_worker(self, timeout: float = 60) -> int:
        """As by an operator; gives the exit code."""
        assert self.worker is not None
        self.worker.terminate()
        return self.worker.wait(timeout)

    def part(self) -> None:
        """Nothing gets in or out, and nobody is told."""
        self.run("nft", "-f", "-", text=_CUT)

    def join(self) -> None:
        self.run("nft", "delete", "table", "inet", "cut")

    def run(self, *command: str, text: str = "") -> None:
        subprocess.run([*self.enter, *command], input=text.encode(), check=True, capture_output=True)

    def end(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(30)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        _ip("link", "del", self.link)
        self.holder.kill()
        self.holder.wait()
        shutil.rmtree(self.data.root, ignore_errors=True)

    @property
    def enter(self) -> list[str]:
        """The beginning of a command that is to run there."""
        return ["nsenter", "-t", str(self.holder.pid), "-n"]


@dataclass
class Hosts:
    folder: Path
    hosts: list[Host] = field(default_factory=list)

    def add(self) -> Host:
        number = len(self.hosts) + 2
        name = f"host{number}"
        holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        host = Host(name, f"{_NETWORK}.{number}", f"{BRIDGE}-{number}", holder, DataDirectory(self.folder / name))
        _await_namespace(holder.pid)
        _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        self.hosts.append(host)
        _ip("link", "set", host.link, "master", BRIDGE, "up")
        for command in (
            "link set lo up",
            f"addr add {_NETWORK}.{number}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {GATEWAY}",
        ):
            host.run("ip", *command.split())
        return host


@contextmanager
def open_hosts(folder: Path) -> Iterator[Hosts]:
    """No host is left afterwards. A server is reached at GATEWAY."""
    _ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0")
    _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    hosts = Hosts(folder)
    try:
        yield hosts
    finally:
        for host in hosts.hosts:
            host.end()
        _ip("link", "del", BRIDGE)


def _await_namespace(pid: int) -> None:
    here = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/ns/net").readlink() == here:
        assert time.monotonic() < deadline, "the namespace is not made"
        time.sleep(0.01)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
