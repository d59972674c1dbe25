"""`jiffy token` and what `jiffy worker` says of a bad one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commands import jiffy
from tests.servers import Outcome, ServerUnderTest, free_port


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    folder = tmp_path_factory.mktemp("gated")
    running = ServerUnderTest(folder / "data", folder)
    running.start("--no-worker", "--gate", f"127.0.0.1:{free_port()}")
    yield running
    running.stop()


def ask(server: ServerUnderTest, *words: str) -> Outcome:
    return jiffy("token", *words, "--data", str(server.data.root))


def test_a_new_token_comes_with_the_command_that_uses_it(gated: ServerUnderTest) -> None:
    command = ask(gated, "create").output.split()
    assert command[:3] == ["jiffy", "worker", "--server"]
    assert command[3].startswith("https://127.0.0.1:")
    assert [len(part) for part in command[5].split(":")] == [25, 47, 64]


def test_a_revoked_token_is_gone_from_the_list(gated: ServerUnderTest) -> None:
    token_id = json.loads(ask(gated, "create", "--json").output)["token"].partition(":")[0]
    assert token_id in ask(gated, "list").output
    assert ask(gated, "revoke", token_id).output == f"{token_id} is revoked\n"
    assert token_id not in ask(gated, "list").output
    again = ask(gated, "revoke", token_id)
    assert (again.code, again.words) == (1, f"jiffy: no token {token_id}")


def test_the_token_of_clients_stays(gated: ServerUnderTest) -> None:
    client = json.loads(gated.data.token.read_text())["token_id"]
    refused = ask(gated, "revoke", client)
    assert refused.code == 1 and "the token of clients" in refused.words


def test_without_a_gate_there_is_nothing_to_join(tmp_path: Path) -> None:
    server = ServerUnderTest(tmp_path / "data", tmp_path)
    server.start("--no-worker")
    try:
        refused = ask(server, "create")
    finally:
        server.stop()
    assert refused.code == 1
    assert "start it with --gate" in refused.words


@pytest.mark.parametrize("address", ["9902", "host:", "host:port"])
def test_a_gate_has_a_host_and_a_port(tmp_path: Path, address: str) -> None:
    refused = jiffy("serve", "--data", str(tmp_path), "--no-worker", "--gate", address)
    assert refused.code == 2 and "is no HOST:PORT" in refused.words
