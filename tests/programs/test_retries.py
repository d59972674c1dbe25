"""Programs whose inputs fail for a while: who tries again, when, and how often."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_spawned_input_is_tried_again_by_the_platform_with_backoff(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("spawned-retries", image=modal.Image.debian_slim())
            times = modal.Queue.from_name("spawned-retries", create_if_missing=True)

            @app.function(retries=modal.Retries(max_retries=3, initial_delay=1.0, backoff_coefficient=2.0))
            def flaky() -> str:
                times.put(time.time())
                if times.len() < 3:
                    raise RuntimeError("not yet")
                return "at last"

            @app.local_entrypoint()
            def main():
                times.clear()
                call = flaky.spawn()
                print(call.get())
                first, second, third = times.get_many(5)
                assert 0.9 < second - first < 4 and 1.9 < third - second < 6, (second - first, third - second)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "at last" in outcome.output


def test_one_that_fails_every_time_fails_with_its_own_error(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("hopeless", image=modal.Image.debian_slim())
            tries = modal.Dict.from_name("hopeless", create_if_missing=True)

            @app.function(retries=modal.Retries(max_retries=2, initial_delay=0.1, backoff_coefficient=1.0))
            def fail(key: str):
                tries[key] = tries.get(key, 0) + 1
                raise ValueError(key)

            @app.local_entrypoint()
            def main():
                tries.clear()
                ways = {"waited": fail.remote, "spawned": lambda key: fail.spawn(key).get()}
                for key, call in ways.items():
                    try:
                        call(key)
                    except ValueError as error:
                        print(error, tries[key])
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "waited 3" in outcome.output
    assert "spawned 3" in outcome.output


def test_an_input_that_takes_too_long_is_tried_again(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("slow-first", image=modal.Image.debian_slim())
            tries = modal.Dict.from_name("slow-first", create_if_missing=True)

            @app.function(timeout=2, retries=modal.Retries(max_retries=1, initial_delay=0.1, backoff_coefficient=1.0))
            def slow_first() -> int:
                tries["n"] = tries.get("n", 0) + 1
                if tries["n"] == 1:
                    time.sleep(30)
                return tries["n"]

            @app.local_entrypoint()
            def main():
                tries.clear()
                print("try", slow_first.spawn().get())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "try 2" in outcome.output


@pytest.mark.since("1.3")
def test_a_container_for_one_input_only_is_used_once(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket
            import modal

            app = modal.App("single-use", image=modal.Image.debian_slim())

            @app.function(single_use_containers=True)
            def where() -> str:
                return socket.gethostname()

            @app.local_entrypoint()
            def main():
                assert len({where.remote() for _ in range(3)}) == 3
                print("three containers")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "three containers" in outcome.output


def test_a_call_that_is_cancelled_ends_while_it_runs(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import asyncio, time
            import modal

            app = modal.App("cancelled", image=modal.Image.debian_slim())
            ended = modal.Queue.from_name("cancelled", create_if_missing=True)

            @app.function()
            def sleep():
                try:
                    time.sleep(60)
                finally:
                    ended.put("sync")

            @app.function()
            @modal.concurrent(max_inputs=2)
            async def sleep_too(number: int) -> int:
                try:
                    await asyncio.sleep(60 if number else 3)
                    return number
                finally:
                    ended.put(f"async {number}")

            @app.local_entrypoint()
            def main():
                ended.clear()
                one, other, beside = sleep.spawn(), sleep_too.spawn(1), sleep_too.spawn(0)
                time.sleep(3)
                one.cancel()
                other.cancel()
                assert beside.get() == 0, "what runs beside it goes on"
                assert {ended.get(timeout=20) for _ in range(3)} == {"sync", "async 1", "async 0"}
                for call in (one, other):
                    try:
                        call.get()
                    except Exception as error:
                        print("gave up:", type(error).__name__)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("gave up:") == 2
