"""`modal function`: what was called, when and how it ended; the variants of a function."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ServerUnderTest, write_program

pytestmark = pytest.mark.since("1.6")

PROGRAM = """
    import modal

    app = modal.App("called", image=modal.Image.debian_slim())

    @app.function(max_containers=2)
    def halve(number: int) -> float:
        if number < 0:
            raise ValueError(number)
        return number / 2

    @app.function()
    @modal.wsgi_app()
    def site():
        return None

    @app.cls(max_containers=1)
    class Counter:
        start: int = modal.parameter(default=0)

        @modal.method()
        def add(self, number: int) -> int:
            return self.start + number
"""

CALLS = """
    import modal

    halve = modal.Function.from_name("called", "halve")
    assert list(halve.map(range(4))) == [0, 0.5, 1, 1.5]
    assert halve.with_options(timeout=77).remote(8) == 4
    try:
        halve.remote(-1)
    except ValueError:
        print("failed")
    assert modal.Cls.from_name("called", "Counter")(start=5).add.remote(1) == 6
"""


@pytest.fixture(scope="module")
def deployed(server: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An app that was called."""
    folder = tmp_path_factory.mktemp("called")
    write_program(folder, PROGRAM)
    server.modal("deploy", "program.py", folder=folder)
    outcome = server.script(write_program(folder, CALLS, "calls.py"))
    assert outcome.code == 0, outcome.output
    yield folder
    server.modal("app", "stop", "called", "--yes")


def ask(server: ServerUnderTest, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(server.modal("function", *words, "--json")))


def test_the_last_calls_of_a_function_are_shown_with_how_they_ended(server: ServerUnderTest, deployed: Path) -> None:
    calls = ask(server, "calls", "called/halve")
    assert [call["status"] for call in calls] == ["failure"] + 4 * ["success"]
    newest = calls[0]
    assert newest["function_call_id"].startswith("fc-") and newest["container_id"].startswith("ta-")
    assert newest["enqueued_at"] <= newest["started_at"] and newest["execution_time_seconds"] > 0
    assert newest["service_method_name"] is None
    assert len(ask(server, "calls", "called/halve", "--tail", "2")) == 2
    shown = server.modal("function", "calls", "called/halve", "--show-function-call-id")
    assert "Displaying 5 rows" in shown and "Failure" in shown and newest["function_call_id"] in shown


def test_calls_of_a_time_are_counted_and_fetched_oldest_first(server: ServerUnderTest, deployed: Path) -> None:
    calls = ask(server, "calls", "called/halve", "--since", "1h", "--until", "0s")
    assert [call["status"] for call in calls] == 4 * ["success"] + ["failure"]
    assert ask(server, "calls", "called/halve", "--since", "3h", "--until", "2h") == []


def test_calls_of_all_variants_are_shown_with_their_methods(server: ServerUnderTest, deployed: Path) -> None:
    assert len(ask(server, "calls", "called/halve", "--all-variants")) == 6
    assert ask(server, "calls", "called/Counter.*") == []
    (call,) = ask(server, "calls", "called/Counter.*", "--all-variants")
    assert call["service_method_name"] == "add"


def test_variants_are_listed_with_their_options_and_parameters(server: ServerUnderTest, deployed: Path) -> None:
    (variant,) = ask(server, "variants", "called/halve")
    assert variant["options"] == {"timeout": 77}
    (instance,) = ask(server, "variants", "called/Counter.*", "--limit", "0")
    assert instance["parameters"] == {"start": 5}
    assert len(ask(server, "calls", instance["function_id"])) == 1
    assert "timeout=77" in server.modal("function", "variants", variant["function_id"])


def test_an_app_and_its_functions_are_described(server: ServerUnderTest, deployed: Path) -> None:
    shown = json.loads(server.modal("app", "info", "called", "--json"))
    assert set(shown["functions"]) == {"halve", "site", "Counter.*"}
    assert shown["functions"]["site"]["summary"] == {"web_function": True, "authenticated": False}
    halve = json.loads(server.modal("function", "info", "called/halve", "--json"))
    assert halve["object_id"] == shown["functions"]["halve"]["id"] and halve["max_containers"] == 2
    site = json.loads(server.modal("function", "info", "called/site", "--json"))
    assert site["web_info"]["web_url"] == f"http://called-site.localhost:{server.port + 1}"
    assert "add" in server.modal("function", "info", "called/Counter.*")
