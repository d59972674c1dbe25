from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from jiffy.runtime.kernel import filesystem_of
from tests.bases import find_base_image, make_base, run_todays_client, share_base, share_images
from tests.clients import leave_out_newer
from tests.hosts import GATEWAY, Hosts, open_hosts
from tests.inventory import Inventory, await_nothing_about, await_nothing_new, take_inventory
from tests.oci import LayoutWriter
from tests.registries import RegistryUnderTest, run_registry
from tests.servers import JIFFY, ServerUnderTest, free_port, write_program

pytest_plugins = ["tests.buckets", "tests.postgres", "tests.companies", "tests.recording"]


# How long an example takes is nobody's failure.
hypothesis.settings.register_profile("jiffy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("jiffy")

_RUN = "JIFFY_TEST_RUN"
"""The folder that the processes share among which tests are divided."""

_HOST_BEFORE = pytest.StashKey[Inventory]()
_LEFT_BEHIND = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """What is started in the background by a shell ignores SIGINT, and so would the clients that tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="jiffy-test-run-")
        os.environ[_RUN] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_sessionstart(session: pytest.Session) -> None:
    if not _is_exempt(session.config):
        session.config.stash[_HOST_BEFORE] = take_inventory()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The host is as it was, whatever the tests did: else the run has failed."""
    if _is_exempt(session.config):
        return
    left = session.config.stash[_LEFT_BEHIND] = await_nothing_new(session.config.stash[_HOST_BEFORE])
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name in config.stash.get(_LEFT_BEHIND, []):
        terminalreporter.write_line(f"LEFT BEHIND {name}", red=True)


def _is_exempt(config: pytest.Config) -> bool:
    """One of the processes among which tests are divided, or a run of unit tests only."""
    return hasattr(config, "workerinput") or "not root" in str(config.option.markexpr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs root says so by where it is; quick tests run before those that start servers."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"server", "fresh_server", "data_root"} & fixtures:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.network)
        if {"s3_address", "postgres", "git_address"} & fixtures:
            item.add_marker(pytest.mark.service)
    leave_out_newer(items)
    items.sort(key=lambda item: item.get_closest_marker("root") is not None)
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root") is not None:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def disk_folder() -> Iterator[Path]:
    """A folder on a real disk, for data directories: /tmp may be in memory."""
    parent = "/var/tmp" if filesystem_of(Path(tempfile.gettempdir())) == "tmpfs" else None
    folder = Path(tempfile.mkdtemp(prefix="jiffy-test-", dir=parent))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(disk_folder: Path) -> Iterator[ServerUnderTest]:
    """The server that most programs share; afterwards nothing of it is left."""
    home = disk_folder / "home"
    home.mkdir()
    running = ServerUnderTest(disk_folder / "shared", home)
    share_base(running, home, Path(os.environ[_RUN]))
    yield running
    running.stop()
    assert await_nothing_about(running.data.instance, str(disk_folder)) == []


@pytest.fixture
def unstarted_server(
    server: ServerUnderTest, disk_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ServerUnderTest]:
    """A server of its own for a test that breaks things, with the base images that the shared one has made."""
    make_base(server, tmp_path)
    folder = disk_folder / request.node.name[:40]
    fresh = ServerUnderTest(folder, disk_folder / "home")
    share_images(server, fresh)
    yield fresh
    fresh.stop()
    assert take_inventory().about(fresh.data.instance) == []
    shutil.rmtree(folder)


@pytest.fixture
def bare_server(server: ServerUnderTest, disk_folder: Path) -> Iterator[ServerUnderTest]:
    """A server of its own that has made nothing yet."""
    bare = ServerUnderTest(disk_folder / "bare", disk_folder / "home")
    bare.data.create()
    yield bare
    bare.stop()
    assert take_inventory().about(bare.data.instance) == []
    shutil.rmtree(bare.data.root)


@pytest.fixture
def fresh_server(unstarted_server: ServerUnderTest) -> ServerUnderTest:
    unstarted_server.start()
    return unstarted_server


@pytest.fixture(autouse=True)
def server_survives(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that breaks the shared server is the one to fail."""
    yield
    if "server" in request.fixturenames:
        shared: ServerUnderTest = request.getfixturevalue("server")
        assert shared.pid and shared.worker_pid


@pytest.fixture
def hosts(disk_folder: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Hosts beside this one."""
    with open_hosts(disk_folder / f"hosts-{request.node.name[:40]}") as opened:
        yield opened


@pytest.fixture
def gated(unstarted_server: ServerUnderTest, hosts: Hosts) -> ServerUnderTest:
    """A server without a worker, which hosts can join."""
    unstarted_server.start("--no-worker", "--gate", f"{GATEWAY}:{free_port()}")
    return unstarted_server


class ProgramFolder:
    """Writes programs and the files beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, name: str = "program.py") -> Path:
        return write_program(self.folder, text, name)


@pytest.fixture(scope="session")
def registry(disk_folder: Path) -> Iterator[RegistryUnderTest]:
    """A registry that anybody may use."""
    with run_registry(disk_folder / "registry") as running:
        yield running


@pytest.fixture(scope="session")
def private_registry(disk_folder: Path) -> Iterator[RegistryUnderTest]:
    """A registry for `somebody` with the password `sesame`."""
    with run_registry(disk_folder / "private-registry", ("somebody", "sesame")) as running:
        yield running


@pytest.fixture(scope="session")
def python_layout(server: ServerUnderTest, disk_folder: Path) -> LayoutWriter:
    """A layout whose image `base` is a Debian with Python, as other tools would have made it."""
    folder = disk_folder / "python-layout"
    folder.mkdir()
    run_todays_client(server, folder)
    name, saved = find_base_image(server), folder / "saved"
    command = ["image", "save", name, f"oci:{saved}", "--compression", "none", "--data", str(server.data.root)]
    subprocess.run([*JIFFY, *command], check=True, capture_output=True)
    layer = max((saved / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    layout = LayoutWriter(folder / "layout")
    settings = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"], "WorkingDir": "/srv", "Cmd": ["python"]}
    layout.image([layer.read_bytes()], settings, name="base", compression="zstd")
    return layout


@pytest.fixture(scope="session")
def python_image(registry: RegistryUnderTest, python_layout: LayoutWriter) -> str:
    """The reference of that image in a registry."""
    registry.copy(f"oci:{python_layout.root}:base", "example/python:1")
    return f"{registry.host}/example/python:1"


@pytest.fixture
def program(tmp_path: Path) -> ProgramFolder:
    return ProgramFolder(tmp_path)
