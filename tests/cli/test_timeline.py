"""`jiffy timeline` splits a start into phases that add up."""

from __future__ import annotations

import json

from tests.cli.test_commands import jiffy
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_start_is_split_into_phases_that_add_up(server: ServerUnderTest, program: ProgramFolder) -> None:
    hello = program(
        """
        import modal

        app = modal.App("hello", image=modal.Image.debian_slim())

        @app.function()
        def hello(): ...

        @app.local_entrypoint()
        def main():
            hello.remote()
        """
    )
    assert server.run(hello).code == 0
    shown = json.loads(jiffy("timeline", "--json", "--data", str(server.data.root)).output)
    expected = ["order", "index", "mount", "network", "runtime", "client import", "program import", "call"]
    assert list(shown["phases"]) == expected
    assert shown["total"] == sum(shown["phases"].values())
    assert all(seconds >= 0 for seconds in shown["phases"].values())
    table = jiffy("timeline", "--data", str(server.data.root)).words
    assert all(phase in table for phase in expected)
