"""What a container tries and must not succeed in: reaching the host, its neighbours, or the server as somebody else."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import ServerUnderTest, write_program

PROBES = """
    import ctypes, errno, json, os, socket
    import modal

    app = modal.App("probes", image=modal.Image.debian_slim())
    libc = ctypes.CDLL(None, use_errno=True)

    def called(result):
        return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

    def attempt(work):
        try:
            return str(work())
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error)) if error.errno else type(error).__name__

    def connect(address):
        with socket.create_connection(address, timeout=2) as connection:
            return "connected"

    def fetch(url):
        import urllib.request, urllib.error
        try:
            return urllib.request.urlopen(url, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    def write(path):
        with open(path, "w") as file:
            file.write("x")
        return "written"

    @app.function()
    def probe(host: str, port: int) -> dict:
        http = "http://172.21.0.1:9901"
        status = open("/proc/self/status").read()
        return {
            "mount": called(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
            "unshare user": called(libc.unshare(0x10000000)),
            "unshare mount": called(libc.unshare(0x20000)),
            "setns": called(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
            "mknod": attempt(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))),
            "chroot escape": attempt(lambda: os.listdir("/proc/1/root/work")),
            "handle": called(libc.syscall(304, -100, ctypes.create_string_buffer(128), 0)),
            "keyring": called(libc.syscall(250, 0, -3, 0, 0, 0)),
            "bpf": called(libc.syscall(321, 0, 0, 0)),
            "raw socket": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
            "packet socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
            "sysctl": attempt(lambda: write("/proc/sys/kernel/hostname")),
            "sysrq": attempt(lambda: write("/proc/sysrq-trigger")),
            "control groups": attempt(lambda: os.mkdir("/sys/fs/cgroup/x")),
            "kernel memory": attempt(lambda: open("/proc/kcore", "rb").read(4)),
            "fuse": os.path.exists("/dev/fuse"),
            "loop": os.path.exists("/dev/loop0"),
            "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())[:1] == [1]
                and len([name for name in os.listdir("/proc") if name.isdigit()]) < 10,
            "capabilities": next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")),
            "filter": next(line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:")),
            "no new privileges": next(line.split()[1] for line in status.splitlines() if line.startswith("NoNewPrivs")),
            "host": attempt(lambda: connect((host, port))),
            "metadata": attempt(lambda: connect(("169.254.169.254", 80))),
            "objects": fetch(f"{http}/objects/" + "0" * 64),
            "worker": fetch(f"{http}/worker"),
            "secrets of the host": [name for name in os.environ if name.startswith("JIFFY_TEST")],
            "tokens": [name for name in os.environ if name.startswith("MODAL_TOKEN")],
        }

    @app.local_entrypoint()
    def main(host: str, port: int):
        print("RESULT " + json.dumps(probe.remote(host, port)))
"""

NEIGHBOURS = """
    import socket, time
    import modal

    app = modal.App("neighbours", image=modal.Image.debian_slim())

    @app.function()
    def listen(seconds: float) -> str:
        listener = socket.create_server(("0.0.0.0", 7777))
        listener.settimeout(seconds)
        print("at", socket.gethostbyname(socket.gethostname()), flush=True)
        try:
            listener.accept()
        except TimeoutError:
            return "nobody came"
        return "somebody came"

    @app.function()
    def call(addresses: list[str]) -> list[str]:
        reached = []
        for address in addresses:
            try:
                socket.create_connection((address, 7777), timeout=0.3).close()
                reached.append(address)
            except OSError:
                pass
        return reached

    @app.local_entrypoint()
    def main():
        waiting = listen.spawn(8)
        time.sleep(2)
        print("reached", call.remote([f"172.21.0.{number}" for number in range(2, 16)]))
        print(waiting.get())
"""


@contextmanager
def listener_on_every_address() -> Iterator[int]:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])


def _accept(listener: socket.socket) -> None:
    try:
        while True:
            listener.accept()[0].close()
    except OSError:
        return


def uplink_address(server: ServerUnderTest) -> str:
    """The host's end of the containers' way to the world."""
    command = ["ip", "-json", "-4", "addr", "show", "dev", f"jiffy-{server.data.instance}"]
    (link,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return str(link["addr_info"][0]["local"])


@pytest.fixture(scope="module")
def found(server: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a container found when it tried."""
    program = write_program(tmp_path_factory.mktemp("escape"), PROBES)
    with listener_on_every_address() as port:
        outcome = server.run(program, "--host", uplink_address(server), "--port", str(port))
    match = re.search(r"^RESULT (.*)$", outcome.output, re.M)
    assert match is not None, outcome.output
    result: dict[str, object] = json.loads(match[1])
    return result


@pytest.mark.parametrize(
    "attempt",
    [
        *("mount", "unshare user", "unshare mount", "setns", "mknod", "handle", "keyring", "bpf"),
        *("raw socket", "packet socket", "sysctl"),
    ],
)
def test_it_is_not_permitted(found: dict[str, object], attempt: str) -> None:
    assert found[attempt] in ("EPERM", "EACCES", "EROFS"), found[attempt]


@pytest.mark.parametrize("attempt", ["chroot escape", "sysrq", "control groups", "kernel memory"])
def test_what_would_lead_to_the_host_is_not_there_or_shut(found: dict[str, object], attempt: str) -> None:
    assert found[attempt] in ("ENOENT", "EPERM", "EACCES", "EROFS", "b''"), found[attempt]


def test_devices_of_the_host_are_not_there(found: dict[str, object]) -> None:
    assert (found["fuse"], found["loop"]) == (False, False)


def test_it_sees_its_own_processes_only(found: dict[str, object]) -> None:
    assert found["processes"] is True


def test_its_capabilities_are_the_few_that_are_given(found: dict[str, object]) -> None:
    sys_admin, net_admin, sys_ptrace, mknod = 21, 12, 19, 27
    effective = int(str(found["capabilities"]), 16)
    assert not any(effective >> number & 1 for number in (sys_admin, net_admin, sys_ptrace, mknod))
    assert found["no new privileges"] == "1"


def test_its_system_calls_are_filtered(found: dict[str, object]) -> None:
    assert found["filter"] == "2"


@pytest.mark.parametrize("place", ["host", "metadata"])
def test_the_host_and_its_metadata_cannot_be_reached(found: dict[str, object], place: str) -> None:
    assert found[place] != "connected"


def test_what_is_for_workers_only_is_not_offered_to_containers(found: dict[str, object]) -> None:
    assert found["objects"] in (401, 403, 404)
    assert found["worker"] in (401, 403, 404)


def test_nothing_of_the_servers_environment_is_in_it(found: dict[str, object]) -> None:
    assert found["secrets of the host"] == []
    assert found["tokens"] == []


def test_containers_cannot_reach_each_other(server: ServerUnderTest, tmp_path: Path) -> None:
    outcome = server.run(write_program(tmp_path, NEIGHBOURS))
    assert outcome.code == 0, outcome.output
    own = re.search(r"^reached (.*)$", outcome.output, re.M)
    assert own is not None and own[1] == "[]", outcome.output
    assert "nobody came" in outcome.output
