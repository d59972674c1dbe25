"""Real servers for tests: `jiffy serve` on a data directory of its own, and the unmodified client pointed at it."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jiffy.cli.running import find_server
from jiffy.datadir import DataDirectory
from jiffy.errors import UnavailableError
from jiffy.locks import lock_holder
from jiffy.server.answered import VARIABLE
from tests.clients import as_it_was, client_python

ANSWERED: Final = Path(tempfile.gettempdir()) / f"jiffy-answered-{os.getpid()}"
"""Where servers that this process has started note what they answer."""
JIFFY = (sys.executable, "-m", "jiffy")

_FIRST_PORT = random.randrange(10_000, 32_000, 2)
_PORTS = itertools.cycle((*range(_FIRST_PORT, 32_000, 2), *range(10_000, _FIRST_PORT, 2)))
"""Below those that the kernel gives to connections: one of these could be taken before the server is there. Processes that
run beside each other begin at different places."""


def free_port() -> int:
    """A port whose next one is free too, and which was not given lately."""
    while True:
        port: int = next(_PORTS)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@dataclass(slots=True)
class Outcome:
    """What a program did. `output` is what it printed, both streams in order."""

    code: int
    output: str

    @property
    def words(self) -> str:
        """The output without boxes and line breaks, as one line."""
        return " ".join(self.output.replace("│", " ").split())


class ServerUnderTest:
    """One `jiffy serve`. It may be killed and started again on the same data and port. `enter` is a command that runs it
    somewhere else, where `host` is its address."""

    def __init__(self, data: Path, home: Path, host: str = "127.0.0.1", enter: Sequence[str] = ()) -> None:
        self.data = DataDirectory(data)
        self.host = host
        self.port = free_port()
        self._home = home
        self._enter = enter
        self._runs: list[Run] = []

    def start(self, *options: str, **variables: str) -> None:
        command = [*self._enter, *JIFFY, "serve", "--data", str(self.data.root), "--background"]
        command += ["--host", self.host, "--port", str(self.port), "--offer", "all", *options]
        environment = {**os.environ, VARIABLE: str(ANSWERED), **variables}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr + self.log()

    def log(self) -> str:
        path = self.data.logs / "server.log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        for run in self._runs:
            run.kill()
        subprocess.run([*JIFFY, "stop", "--data", str(self.data.root)], check=True, capture_output=True, timeout=120)

    @property
    def pid(self) -> int:
        pid = lock_holder(self.data.server_lock)
        assert pid is not None
        return pid

    @property
    def worker_pid(self) -> int:
        pid = lock_holder(self.data.worker_lock)
        assert pid is not None
        return pid

    @property
    def serving_pid(self) -> int:
        """The process that answers; `pid` is the one that keeps it running."""
        return find_server(self.data).pid

    def kill(self) -> None:
        """SIGKILL the process that answers."""
        os.kill(self.serving_pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL everything at once, as a power cut would."""
        for pid in (self.pid, self.serving_pid, self.worker_pid):
            os.kill(pid, signal.SIGKILL)
        locks = (self.data.server_lock, self.data.serving_lock, self.data.worker_lock)
        while any(lock_holder(lock) for lock in locks):
            time.sleep(0.01)

    def kill_worker(self) -> None:
        os.kill(self.worker_pid, signal.SIGKILL)

    def join_arguments(self) -> list[str]:
        """Options with which a worker elsewhere joins: of a server that was started with a gate."""
        command = [*JIFFY, "token", "create", "--data", str(self.data.root), "--json"]
        issued = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
        return ["--server", f"https://{issued['gate']}", "--token", issued["token"]]

    def look(self) -> tuple[int, int]:
        """The process that answers, and how many workers it has; 0 and 0 while none does."""
        try:
            found = find_server(self.data)
        except UnavailableError:
            return 0, 0
        return found.pid, found.workers

    def await_workers(self, number: int = 1, *, other_than: int = 0, timeout: float = 30) -> None:
        """Until a process, another one than that of before, has so many workers."""
        deadline = time.monotonic() + timeout
        while (seen := self.look())[1] != number or seen[0] == other_than:
            assert time.monotonic() < deadline, f"process {seen[0]} has {seen[1]} workers"
            time.sleep(0.05)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database in the data directory answers."""
        with closing(sqlite3.connect(self.data.database, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def environment(self) -> dict[str, str]:
        """What a client needs, and nothing of the person's own configuration."""
        token = json.loads(self.data.token.read_text())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return {
            **kept,
            "HOME": str(self._home),
            "MODAL_SERVER_URL": f"http://{self.host}:{self.port}",
            "MODAL_TOKEN_ID": token["token_id"],
            "MODAL_TOKEN_SECRET": token["token_secret"],
            "COLUMNS": "200",
            "PYTHONUNBUFFERED": "1",
        }

    def begin(
        self,
        program: Path,
        *arguments: str,
        options: Sequence[str] = (),
        python: str = "",
        **variables: str,
    ) -> Run:
        """Start `modal run` on a program, with the client that a Python has: the one that runs the programs, else."""
        command = [python or client_python(), "-m", "modal", "run", *options, str(program), *arguments]
        return self._begin(command, program.parent, **variables)

    def begin_modal(self, *arguments: str, folder: Path) -> Run:
        """Start a command of the client that goes on until it is interrupted."""
        return self._begin([client_python(), "-m", "modal", *arguments], folder)

    def begin_script(self, program: Path, *arguments: str, **variables: str) -> Run:
        """Start a program by Python itself."""
        return self._begin([client_python(), str(program), *arguments], program.parent, **variables)

    def _begin(self, command: Sequence[str], folder: Path, **variables: str) -> Run:
        run = Run(
            subprocess.Popen(
                command,
                env={**self.environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=folder,
            )
        )
        self._runs.append(run)
        return run

    def modal(self, *arguments: str, folder: Path | None = None, code: int | None = 0, **variables: str) -> str:
        """What a command of the client prints; it must end with that code, or with any but 0."""
        done = subprocess.run(
            [client_python(), "-m", "modal", *as_it_was(arguments)],
            env={**self.environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            timeout=120,
        )
        assert done.returncode == code or (code is None and done.returncode), done.stdout
        return done.stdout

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command of the client lists, by the names that its columns have today: before 1.5 they were titles."""
        rows = json.loads(self.modal(*arguments, "--json"))
        return [
            {name.lower().replace(" ", "_").replace("/", "_"): value for name, value in row.items()} for row in rows
        ]

    def script(self, program: Path, *arguments: str, **variables: str) -> Outcome:
        """Run a program by Python itself."""
        return self.begin_script(program, *arguments, **variables).finish()

    def run(
        self,
        program: Path,
        *arguments: str,
        options: Sequence[str] = (),
        python: str = "",
        **variables: str,
    ) -> Outcome:
        return self.begin(program, *arguments, options=options, python=python, **variables).finish()


class Run:
    """A `modal run` under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._seen: list[str] = []

    def await_line(self, text: str) -> str:
        """Read until a line holds the text; gives the line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never printed: {''.join(self._seen)}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Nothing happens when it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def finish(self, timeout: float = 120) -> Outcome:
        try:
            rest, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            rest, _ = self.process.communicate()
            raise AssertionError(f"the program hangs: {''.join(self._seen)}{rest}") from None
        return Outcome(self.process.returncode, "".join(self._seen) + rest)


def write_program(folder: Path, text: str, name: str = "program.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path
