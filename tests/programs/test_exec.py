"""Commands that people run in containers (`modal container exec`), beside what these run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.faults.storms import processes_with
from tests.hosts import Hosts
from tests.programs.test_ends import ended_children
from tests.programs.test_join import join
from tests.programs.test_runtimes import path_without
from tests.servers import Run, ServerUnderTest, write_program

PROGRAM = """
    import os, time
    import modal

    app = modal.App("inhabited", image=modal.Image.debian_slim().env({"OF_THE_IMAGE": "yes"}))

    @app.function(timeout=600)
    def stay():
        print("at", os.environ["MODAL_TASK_ID"], flush=True)
        time.sleep(600)

    @app.local_entrypoint()
    def main():
        stay.remote()
"""

ATTENDED = """
    import asyncio, sys, uuid
    from modal._utils.async_utils import synchronizer
    from modal.client import _Client
    from modal.container_process import _ContainerProcess
    from modal.sandbox._impl_v1 import command_router_access_fetcher
    from modal.sandbox._task_command_router_client import TaskCommandRouterClient
    from modal_proto import task_command_router_pb2 as router

    async def main(task_id, *argv):
        client = await _Client.from_env()
        access = command_router_access_fetcher(client, task_id)
        commands = await TaskCommandRouterClient.connect(client, task_id, access)
        exec_id = str(uuid.uuid4())
        request = router.TaskExecStartRequest(
            task_id=task_id, exec_id=exec_id, command_args=argv, stdout_config=1, stderr_config=1
        )
        await commands.exec_start(request)
        await commands.exec_start(request)
        process = _ContainerProcess(exec_id, task_id, client, commands, text=False)
        poured = asyncio.gather(pour(process.stdout, sys.stdout.buffer), pour(process.stderr, sys.stderr.buffer))
        data = sys.stdin.buffer.read()
        for start in range(0, len(data), 2**20):
            process.stdin.write(data[start : start + 2**20])
            await process.stdin.drain()
        process.stdin.write_eof()
        await process.stdin.drain()
        await poured
        return await process.wait()

    async def pour(stream, file):
        async for data in stream:
            file.write(data)
            file.flush()

    sys.exit(synchronizer.create_blocking(main)(*sys.argv[1:]))
"""


FORKING = """
    import ctypes, os, signal
    ctypes.CDLL(None).prctl(36, 1)  # what loses its parent is this one's child: init need not be told of each
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(200):
        if os.fork() == 0:
            signal.pause()
    for _ in range(4):
        if os.fork() == 0:
            while True:
                if os.fork():
                    os._exit(0)
    print("up", flush=True)
    signal.pause()
"""


@contextmanager
def inhabited(server: ServerUnderTest, folder: Path) -> Iterator[str]:
    """A container that runs something."""
    run = server.begin(write_program(folder, PROGRAM))
    try:
        yield run.await_line("at ta-").split()[-1]
    finally:
        run.interrupt()
        run.finish()


@pytest.fixture(scope="module")
def task_id(server: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with inhabited(server, tmp_path_factory.mktemp("inhabited")) as task_id:
        yield task_id


def attend(
    server: ServerUnderTest, program: ProgramFolder, task_id: str, *argv: str, stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    """How a command ends that a program runs by the client's parts, and what it prints."""
    command = [sys.executable, str(program(ATTENDED)), task_id, *argv]
    done = subprocess.run(command, env=server.environment(), input=stdin, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def begin_attended(server: ServerUnderTest, folder: Path, task_id: str, *argv: str) -> Run:
    """The same, while it runs."""
    return server.begin_script(write_program(folder, ATTENDED, "attended.py"), task_id, *argv)


def execute(server: ServerUnderTest, task_id: str, *argv: str) -> str:
    return server.modal("container", "exec", "--no-pty", task_id, "--", *argv)


def test_a_command_sees_the_container_as_its_program_does(server: ServerUnderTest, task_id: str) -> None:
    source = "import os; print(os.getcwd(), os.getuid(), os.environ['OF_THE_IMAGE'], os.environ['MODAL_TASK_ID'])"
    assert execute(server, task_id, "python", "-c", source).split() == ["/root", "0", "yes", task_id]
    status = execute(server, task_id, "cat", "/proc/self/status", "/proc/1/status")
    for name in ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
        one, other = [line for line in status.splitlines() if line.startswith(f"{name}:")]
        assert one == other, "it may do what the program may, and no more"


def test_both_outputs_and_the_exit_code_come_back(
    server: ServerUnderTest, program: ProgramFolder, task_id: str
) -> None:
    source = "import sys; print('out'); print('error', file=sys.stderr); sys.exit(3)"
    assert attend(server, program, task_id, "python", "-c", source) == (3, b"out\n", b"error\n")
    killed = attend(server, program, task_id, "sh", "-c", "kill -9 $$")
    assert killed[0] == 137


def test_input_comes_back_whole_however_much_it_is(
    server: ServerUnderTest, program: ProgramFolder, task_id: str
) -> None:
    source = "import hashlib, sys; print(hashlib.file_digest(sys.stdin.buffer, 'md5').hexdigest())"
    data = b"a line\n" * 1_000_000
    code, out, _ = attend(server, program, task_id, "python", "-c", source, stdin=data)
    assert (code, out.decode().strip()) == (0, hashlib.md5(data).hexdigest())
    short = attend(server, program, task_id, "tr", "a-z", "A-Z", stdin=b"a line\n" * 10_000)
    assert short == (0, b"A LINE\n" * 10_000, b"")


def test_megabytes_of_output_arrive_whole(server: ServerUnderTest, task_id: str) -> None:
    source = "import sys; sys.stdout.write('0123456789abcde\\n' * 400_000)"
    printed = execute(server, task_id, "python", "-c", source)
    assert len(printed) == 6_400_000 and printed == "0123456789abcde\n" * 400_000


def test_a_command_that_is_not_there_is_one_sentence(server: ServerUnderTest, task_id: str) -> None:
    said = server.modal("container", "exec", "--no-pty", task_id, "--", "no-such-program", code=1)
    assert "the command does not start" in said and "no-such-program" in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 15
    while ended := ended_children(server.worker_pid):  # the container could not end before them
        assert time.monotonic() < deadline, ended
        time.sleep(0.1)


def test_a_container_that_is_not_there_is_one_sentence(server: ServerUnderTest) -> None:
    said = server.modal("container", "exec", "--no-pty", "ta-unknown", "--", "true", code=1)
    assert "no container ta-unknown" in said
    assert "Traceback" not in said


class Terminal:
    """A command of the client at a terminal."""

    def __init__(self, server: ServerUnderTest, *arguments: str) -> None:
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "modal", *arguments]
            os.execvpe(command[0], command, {**server.environment(), "TERM": "vt100"})
        self._read = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def await_text(self, text: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self._read:
            assert time.monotonic() < deadline, self._read
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    self._read += os.read(self._descriptor, 65536)
                except OSError:
                    raise AssertionError(f"it ended: {self._read!r}") from None

    def finish(self) -> tuple[int, str]:
        """Its exit code, and all that it has shown."""
        with contextlib.suppress(OSError):
            while data := os.read(self._descriptor, 65536):
                self._read += data
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status), self._read.decode()


def at_terminal(server: ServerUnderTest, task_id: str, *argv: str) -> Terminal:
    return Terminal(server, "container", "exec", "--pty", task_id, "--", *argv)


def test_a_shell_at_a_terminal(server: ServerUnderTest, task_id: str) -> None:
    use_shell(at_terminal(server, task_id, "sh"))


def use_shell(terminal: Terminal) -> None:
    terminal.await_text("#")
    terminal.type("tty; echo $TERM in $((40 + 2))\n")
    terminal.await_text("/dev/pts/")
    terminal.await_text("vt100 in 42")
    terminal.type("sleep 500\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.type("echo code $?\n")
    terminal.await_text("code 130")
    terminal.type("exit\n")
    assert terminal.finish()[0] == 0


def test_modal_shell_of_a_container_is_a_shell_in_it(server: ServerUnderTest, task_id: str) -> None:
    use_shell(Terminal(server, "shell", task_id))
    assert server.modal("shell", "--no-pty", "--cmd", "printenv MODAL_TASK_ID", task_id).split() == [task_id]


def test_modal_shell_of_anything_else_says_that_sandboxes_are_not_there(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    said = server.modal("shell", "--no-pty", "--cmd", "true", f"{program(PROGRAM)}::stay", code=1)
    assert "does not answer Sandbox" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("has_terminal", [False, True])
def test_nothing_is_left_of_a_command_whose_client_was_killed(
    server: ServerUnderTest, task_id: str, has_terminal: bool
) -> None:
    mark = "4321.5" if has_terminal else "4321.25"
    leave(server, task_id, has_terminal, *lasting(mark))
    await_end_of(mark)


def test_nothing_is_left_of_a_command_that_forks_as_fast_as_it_can(server: ServerUnderTest, task_id: str) -> None:
    source = textwrap.dedent(FORKING)
    leave(server, task_id, False, "python", "-c", source)
    await_end_of(source)
    assert execute(server, task_id, "echo", "the container goes on") == "the container goes on\n"


def test_under_runc_commands_run_the_same(
    unstarted_server: ServerUnderTest, program: ProgramFolder, tmp_path: Path
) -> None:
    unstarted_server.start(PATH=path_without("crun", tmp_path / "bin"))
    with inhabited(unstarted_server, tmp_path) as task_id:
        assert "with runc" in (unstarted_server.data.logs / "worker.log").read_text()
        use_commands(unstarted_server, program, task_id, "4325.5")


def test_commands_run_in_a_container_on_a_worker_elsewhere(
    gated: ServerUnderTest, hosts: Hosts, program: ProgramFolder, tmp_path: Path
) -> None:
    join(gated, hosts.add())
    with inhabited(gated, tmp_path) as task_id:
        use_commands(gated, program, task_id, "4326.5")


def use_commands(server: ServerUnderTest, program: ProgramFolder, task_id: str, mark: str) -> None:
    """With input and both outputs, at a terminal, left by a client that was killed, and one that does not start."""
    data = b"a line\n" * 300_000
    source = "cat; echo error >&2; exit 3"
    assert attend(server, program, task_id, "sh", "-c", source, stdin=data) == (3, data, b"error\n")
    use_shell(at_terminal(server, task_id, "sh"))
    for has_terminal in (False, True):
        leave(server, task_id, has_terminal, *lasting(mark))
        await_end_of(mark)
    said = server.modal("container", "exec", "--no-pty", task_id, "--", "no-such-program", code=1)
    assert "the command does not start" in said


def lasting(mark: str) -> list[str]:
    """A command that says that it is up, and lasts. The mark is in what its processes are called."""
    return ["sh", "-c", f"echo up; sleep {mark} & sleep {mark}"]


def leave(server: ServerUnderTest, task_id: str, has_terminal: bool, *argv: str) -> None:
    """Run a command that says that it is up, and kill its client."""
    if has_terminal:
        terminal = at_terminal(server, task_id, *argv)
        terminal.await_text("up")
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.finish()
    else:
        run = server.begin_modal("container", "exec", "--no-pty", task_id, "--", *argv, folder=server.data.root)
        run.await_line("up")
        run.kill()


def await_end_of(word: str, seconds: float = 30) -> None:
    """Until no process has that word in its command line, in any container."""
    deadline = time.monotonic() + seconds
    while left := processes_with(word):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
