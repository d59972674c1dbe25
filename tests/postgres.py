"""A PostgreSQL of the tests' own, from Debian's packages, in a temporary folder on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.servers import free_port

_USER = "postgres"
_SETTINGS = {"max_connections": "200", "shared_buffers": "32MB"}


@dataclass
class PostgresUnderTest:
    """A cluster that can be stopped, killed and started again."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, name: str) -> str:
        return f"postgresql://{_USER}@{self.host}:{self.port}/{name}"

    def create_database(self) -> str:
        """The address of an empty one."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def start(self) -> None:
        settings = {**_SETTINGS, "listen_addresses": self.host}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        places = ["-p", str(self.port), "-k", str(self.folder)]
        command = [_program("postgres"), "-D", str(self.folder / "data"), *places, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(_as_user(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await()

    def stop(self, number: int = 2) -> None:
        """SIGINT: at once, in good order."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def _await(self) -> None:
        for _ in range(300):
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=1).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresUnderTest]:
    with run_postgres() as running:
        yield running


@contextmanager
def run_postgres(host: str = "127.0.0.1", network: str = "127.0.0.1/32") -> Iterator[PostgresUnderTest]:
    """For everybody in a network."""
    folder = Path(tempfile.mkdtemp(prefix="jiffy-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    initialize = [_program("initdb"), "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-N"]
    subprocess.run(_as_user(initialize), check=True, stdout=subprocess.DEVNULL)
    with (folder / "data/pg_hba.conf").open("a") as access:
        access.write(f"host all all {network} trust\n")
    running = PostgresUnderTest(folder, free_port(), host)
    running.start()
    yield running
    running.stop()
    shutil.rmtree(folder)


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, "PostgreSQL is not installed: scripts/install development"
    return str(found[-1])


def _as_user(command: list[str]) -> list[str]:
    """The engine refuses to be root."""
    if os.geteuid() != 0:
        return command
    user = pwd.getpwnam(_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]
