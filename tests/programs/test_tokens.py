"""`modal token new`: a client gets a token of its own, once somebody approves on a page of the server."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.clients import client_python
from tests.servers import Run, ServerUnderTest


class Person:
    """A person at a terminal whose client has no token."""

    def __init__(self, server: ServerUnderTest, folder: Path) -> None:
        self._folder = folder
        kept = {name: value for name, value in server.environment().items() if not name.startswith("MODAL_TOKEN_")}
        self._environment = {**kept, "MODAL_CONFIG_PATH": str(folder / "modal.toml"), "BROWSER": "no-browser"}
        self._runs: list[Run] = []

    def begin(self, *words: str, **variables: str) -> Run:
        process = subprocess.Popen(
            [client_python(), "-m", "modal", *words],
            env={**self._environment, **variables},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._runs.append(Run(process))
        return self._runs[-1]

    def leave(self) -> None:
        for run in self._runs:
            run.kill()

    @property
    def token(self) -> dict[str, str]:
        """What the client has written down."""
        profile = tomllib.loads((self._folder / "modal.toml").read_text())["jiffy"]
        return {name: profile[name] for name in ("token_id", "token_secret")}


@pytest.fixture
def person(server: ServerUnderTest, tmp_path: Path) -> Iterator[Person]:
    here = Person(server, tmp_path)
    yield here
    here.leave()


@pytest.fixture
def own(server: ServerUnderTest) -> dict[str, str]:
    """The server's own token."""
    return dict(json.loads(server.data.token.read_text()))


def read_page(run: Run) -> tuple[str, str]:
    """The page that a client names, and the code that it shows."""
    page = run.await_line("/token/").strip()
    code = re.search(r"Enter this code: (\S+)", run.await_line("Enter this code"))
    assert code is not None
    return page, code[1]


def browse(page: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    try:
        with urlopen(page, urlencode(form).encode() if form else None, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.since("1.3")
def test_a_client_without_a_token_gets_one_that_somebody_approves(person: Person, own: dict[str, str]) -> None:
    run = person.begin("token", "new")
    page, code = read_page(run)
    assert "asks for a token" in browse(page)[1]
    status, text = browse(page, {"code": code, **own, "token_secret": "as-guess"})
    assert status == 403 and "4 tries are left" in text
    assert browse(page, {"code": code, **own})[0] == 200
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert "Token verified successfully" in outcome.output and "in profile jiffy" in outcome.words
    assert person.token["token_id"] in person.begin("token", "info").finish().output
    assert browse(page)[0] == 404


@pytest.mark.since("1.6")
def test_a_token_is_replaced_by_one_that_ends_by_itself(person: Person, own: dict[str, str]) -> None:
    run = person.begin("setup")
    page, code = read_page(run)
    browse(page, {"code": code, **own})
    assert run.finish().code == 0
    first = person.token
    run = person.begin("token", "new", "--expires-in", "12h", "--delete-existing")
    page, code = read_page(run)
    browse(page, {"code": code, **first})
    outcome = run.finish()
    assert "has been deleted" in outcome.words, outcome.output
    assert "Expires at" in person.begin("token", "info").finish().output
    shown = {f"MODAL_{name.upper()}": value for name, value in first.items()}
    assert "did not issue" in person.begin("token", "info", **shown).finish().words
