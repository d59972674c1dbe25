"""`modal serve`: an app that is served while its file changes."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Callable

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

PROGRAM = """
    import modal

    app = modal.App("draft", image=modal.Image.debian_slim())

    @app.function()
    @modal.wsgi_app()
    def page():
        def answer(environ, start):
            start("200 OK", [("content-type", "text/plain")])
            return [b"{text}"]
        return answer
"""


def read_page(server: ServerUnderTest) -> str:
    connection = http.client.HTTPConnection(server.host, server.port + 1, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": "draft-page-dev.localhost"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def await_page(server: ServerUnderTest, text: str, save: Callable[[], object] = lambda: None) -> None:
    """The file is saved again and again: its page may be served before the client watches it."""
    deadline = time.monotonic() + 90
    saved_at = 0.0
    while (seen := read_page(server)) != text:
        assert time.monotonic() < deadline, seen
        if time.monotonic() > saved_at + 10:
            save()
            saved_at = time.monotonic()
        time.sleep(0.3)


def test_a_change_of_the_file_is_served_at_the_same_address_until_it_is_interrupted(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    path = program(PROGRAM.format(text="first"), "draft.py")
    run = server.begin_modal("serve", str(path), folder=path.parent)
    try:
        run.await_line("draft-page-dev.localhost")
        await_page(server, "first")
        await_page(server, "second", lambda: program(PROGRAM.format(text="second"), "draft.py"))
        run.process.send_signal(signal.SIGINT)
        run.finish(60)
        deadline = time.monotonic() + 20
        while "no web endpoint is named draft-page-dev" not in read_page(server):
            assert time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        run.kill()
