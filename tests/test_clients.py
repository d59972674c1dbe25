"""Programs are run by the client that is asked for, without what came later."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.clients import VARIABLE, as_it_was, client_python, leave_out_newer


class Item:
    """As much of a test as matters here."""

    def __init__(self, *since: str) -> None:
        self._since = since
        self.added: list[Any] = []

    def iter_markers(self, name: str) -> list[Any]:
        return [SimpleNamespace(args=(version,)) for version in self._since]

    def add_marker(self, marker: Any) -> None:
        self.added.append(marker)


@pytest.mark.parametrize(("version", "left_out"), [("1.0.5", 2), ("1.2.6", 1), ("1.6.4", 0)])
def test_what_came_later_is_left_out(monkeypatch: pytest.MonkeyPatch, version: str, left_out: int) -> None:
    monkeypatch.setenv(VARIABLE, version)
    items = [Item(), Item("1.2"), Item("1.6.4")]
    leave_out_newer(cast("list[pytest.Item]", items))
    assert sum(bool(item.added) for item in items) == left_out


def test_todays_client_is_the_one_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert client_python() == sys.executable


def test_older_clients_are_told_otherwise_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["app", "stop", "name", "--yes"]
    monkeypatch.setenv(VARIABLE, "1.2.6")
    assert as_it_was(words) == ["app", "stop", "name"]
    assert as_it_was(["volume", "delete", "name", "--yes"]) == ["volume", "delete", "name", "--yes"]
    assert as_it_was(["environment", "delete", "name", "--yes"]) == ["environment", "delete", "name", "--confirm"]
    monkeypatch.setenv(VARIABLE, "1.4.0")
    assert as_it_was(words) == words
