"""The main job with PostgreSQL as the store."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg

from tests.bases import share_images_with
from tests.conftest import ProgramFolder
from tests.postgres import PostgresUnderTest
from tests.servers import ServerUnderTest

SQUARES = """
    import time
    import modal

    app = modal.App("squares", image=modal.Image.debian_slim())

    @app.function()
    def square(number: int) -> int:
        time.sleep(0.05)
        return number * number

    @app.local_entrypoint()
    def main(count: int):
        print("sum", sum(square.map(range(count))))
"""


def test_programs_run_on_a_database_and_lose_nothing_when_it_and_the_server_are_killed(
    server: ServerUnderTest, unstarted_server: ServerUnderTest, postgres: PostgresUnderTest, program: ProgramFolder
) -> None:
    url = postgres.create_database()
    share_images_with(server, unstarted_server.data.objects, url)
    unstarted_server.start(JIFFY_STORE=url)
    outcome = unstarted_server.run(program(SQUARES), "--count", "40")
    assert outcome.code == 0, outcome.output
    assert f"sum {squares(40)}" in outcome.output
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM outputs").fetchone() == (40,)
    assert url not in Path(f"/proc/{unstarted_server.serving_pid}/cmdline").read_text(), "it may hold a password"
    run = unstarted_server.begin(program(SQUARES), "--count", "200")
    time.sleep(3)
    unstarted_server.kill()
    time.sleep(1)
    postgres.stop(number=9)
    postgres.start()
    outcome = run.finish(timeout=120)
    assert outcome.code == 0, outcome.output
    assert f"sum {squares(200)}" in outcome.output


def squares(count: int) -> int:
    return sum(number * number for number in range(count))
