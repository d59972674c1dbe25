"""Several servers on one database, each on a host of its own, and workers on others."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.bases import make_base, share_images_with
from tests.hosts import GATEWAY, NETWORK, Host, Hosts, open_hosts
from tests.postgres import PostgresUnderTest, run_postgres
from tests.servers import ServerUnderTest, free_port


class Keeper:
    """Starts a host's worker, and again when it ends."""

    def __init__(self, host: Host, arguments: tuple[str, ...]) -> None:
        self._host = host
        self._arguments = arguments
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep)
        host.start_worker(*arguments)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopped.wait(0.2):
            if self._host.worker is None or self._host.worker.poll() is not None:
                self._host.start_worker(*self._arguments)


@dataclass
class Company:
    """`hosts` are those of the servers, in the same order; on each a server has the same port."""

    postgres: PostgresUnderTest
    store: str
    shared: Path
    everywhere: Hosts
    home: Path
    servers: list[ServerUnderTest] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    workers: list[Host] = field(default_factory=list)
    _keepers: list[Keeper] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    _gates: list[str] = field(default_factory=list)

    def add_server(self) -> ServerUnderTest:
        host = self.everywhere.add()
        server = ServerUnderTest(host.data.root, self.home, host.address, host.enter)
        server.port = self.port
        self._gates.append(f"{host.address}:{free_port()}")
        self.hosts.append(host)
        self.servers.append(server)
        self.start_server(server)
        return server

    def start_server(self, server: ServerUnderTest) -> None:
        gate = self._gates[self.servers.index(server)]
        server.start("--no-worker", "--shared", str(self.shared), "--gate", gate, JIFFY_STORE=self.store)

    def add_worker(self, *options: str, kept: bool = False) -> Host:
        """`kept`: it is started again whenever it ends, as by a service manager."""
        host = self.everywhere.add()
        self.workers.append(host)
        token = self.servers[0].join_arguments()[-1]
        servers = [word for gate in self._gates for word in ("--server", f"https://{gate}")]
        arguments = (*servers, "--token", token, *options)
        if kept:
            self._keepers.append(Keeper(host, arguments))
        else:
            host.start_worker(*arguments)
        return host

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.store) as connection:
            return connection.execute(query.encode()).fetchall()

    def leader(self, timeout: float = 30) -> ServerUnderTest:
        """The server that leads, once one does."""
        deadline = time.monotonic() + timeout
        while True:
            query = "SELECT address FROM leadership WHERE expires_at > extract(epoch FROM clock_timestamp())"
            for (address,) in self.rows(query):
                return self.servers[self._gates.index(address.removeprefix("https://"))]
            assert time.monotonic() < deadline, "no server leads"
            time.sleep(0.05)

    def follower(self) -> ServerUnderTest:
        leader = self.leader()
        return next(server for server in self.servers if server is not leader)

    def host_of(self, server: ServerUnderTest) -> Host:
        return self.hosts[self.servers.index(server)]

    def await_workers(self, number: int) -> None:
        self.leader().await_workers(number)

    def stop(self) -> None:
        for keeper in self._keepers:
            keeper.stop()
        for host in self.workers:
            if host.worker is not None and host.worker.poll() is None:
                host.worker.terminate()
        for host in self.workers:
            if host.worker is not None:
                host.worker.wait(60)
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="module")
def company(server: ServerUnderTest, disk_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Without a server yet; the base images are those that the shared server has made."""
    home = tmp_path_factory.mktemp("company")
    make_base(server, home)
    with open_hosts(disk_folder / "company") as hosts, run_postgres(GATEWAY, NETWORK) as postgres:
        opened = Company(postgres, postgres.create_database(), hosts.folder / "shared", hosts, home)
        (opened.shared / "objects").mkdir(parents=True)
        share_images_with(server, opened.shared / "objects", opened.store)
        try:
            yield opened
        finally:
            opened.stop()
            shutil.rmtree(opened.shared)
