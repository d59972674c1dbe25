"""`jiffy env` and `jiffy login`, with a server that answers (one without a worker, which needs no root)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.cli.running import find_server
from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    folder = tmp_path_factory.mktemp("login")
    running = ServerUnderTest(folder / "data", folder)
    running.start("--no-worker")
    yield running
    running.stop()


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "modal.toml"


def login(running: ServerUnderTest, profile: Path, *options: str) -> tuple[int, str]:
    outcome = jiffy("login", "--data", str(running.data.root), *options, MODAL_CONFIG_PATH=str(profile))
    return outcome.code, outcome.words


def test_env_prints_what_a_shell_needs(running: ServerUnderTest) -> None:
    server = find_server(running.data)
    lines = jiffy("env", "--data", str(running.data.root)).output.splitlines()
    assert lines == [
        f"export MODAL_SERVER_URL={server.url}",
        f"export MODAL_TOKEN_ID={server.token_id}",
        f"export MODAL_TOKEN_SECRET={server.token_secret}",
    ]


def test_login_writes_a_profile_that_only_its_owner_reads(running: ServerUnderTest, profile: Path) -> None:
    assert login(running, profile)[0] == 0
    written = tomllib.loads(profile.read_text())["jiffy"]
    assert written["server_url"] == find_server(running.data).url
    assert profile.stat().st_mode & 0o077 == 0


def test_login_leaves_other_profiles_as_they_are(running: ServerUnderTest, profile: Path) -> None:
    before = '# mine\n[work]\ntoken_id = "ak-1"\ntoken_secret = "as-1"\nactive = true\n'
    profile.write_text(before)
    assert login(running, profile)[0] == 0
    assert profile.read_text().startswith(before)
    assert set(tomllib.loads(profile.read_text())) == {"work", "jiffy"}


def test_login_does_not_replace_a_profile(running: ServerUnderTest, profile: Path) -> None:
    login(running, profile)
    before = profile.read_text()
    code, words = login(running, profile)
    assert code == 1
    assert "--profile" in words
    assert profile.read_text() == before


def test_login_does_not_take_over_from_an_active_profile(running: ServerUnderTest, profile: Path) -> None:
    profile.write_text('[work]\ntoken_id = "ak-1"\nactive = true\n')
    code, words = login(running, profile, "--activate")
    assert code == 1
    assert "active profile" in words


def test_serving_writes_no_profile(running: ServerUnderTest) -> None:
    assert not (running.data.root.parent / ".modal.toml").exists()


def test_the_token_is_its_owners_only(running: ServerUnderTest) -> None:
    assert running.data.token.stat().st_mode & 0o077 == 0
    assert running.data.root.stat().st_mode & 0o077 == 0


def test_a_second_server_on_the_same_data_is_refused(running: ServerUnderTest) -> None:
    outcome = jiffy("serve", "--no-worker", "--data", str(running.data.root), "--port", "0")
    assert outcome.code == 1
    assert "a server runs on" in outcome.words


def test_a_port_that_is_taken_is_named(running: ServerUnderTest, tmp_path: Path) -> None:
    outcome = jiffy("serve", "--no-worker", "--data", str(tmp_path / "other"), "--port", str(running.port))
    assert outcome.code == 1
    assert f"cannot listen on 127.0.0.1:{running.port}" in outcome.words
    assert "--port" in outcome.words
