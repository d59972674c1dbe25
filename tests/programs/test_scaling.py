"""Programs that say how many containers they want, and what each does at once."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_concurrent_inputs_share_a_container(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket, time
            import modal

            app = modal.App("concurrent", image=modal.Image.debian_slim())

            @app.function()
            @modal.concurrent(max_inputs=8)
            def where(number: int) -> str:
                time.sleep(1)
                return socket.gethostname()

            @app.local_entrypoint()
            def main():
                where.remote(0)
                started = time.time()
                assert len(set(where.map(range(8)))) == 1
                assert time.time() - started < 6
                print("eight at once")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "eight at once" in outcome.output


def test_more_containers_come_at_the_target_than_at_the_most(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import asyncio, socket
            import modal

            app = modal.App("target", image=modal.Image.debian_slim())

            @app.function()
            @modal.concurrent(max_inputs=20, target_inputs=2)
            async def where(number: int) -> str:
                await asyncio.sleep(4)
                return socket.gethostname()

            @app.local_entrypoint()
            def main():
                hosts = list(where.map(range(8)))
                print("containers:", len(set(hosts)))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "containers: 1\n" not in outcome.output


def test_inputs_are_batched_up_to_a_size_and_a_wait(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("batched", image=modal.Image.debian_slim())

            @app.function(max_containers=1)
            @modal.batched(max_batch_size=4, wait_ms=1000)
            def double(numbers: list[int]) -> list[tuple]:
                return [(2 * number, len(numbers)) for number in numbers]

            @app.local_entrypoint()
            def main():
                results = list(double.map(range(10)))
                assert [value for value, _ in results] == [2 * number for number in range(10)]
                assert max(size for _, size in results) == 4, results
                started = time.time()
                assert double.remote(7) == (14, 1)
                assert 0.9 < time.time() - started < 5, "one waits for others, not for long"
                print("batches of four")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "batches of four" in outcome.output


@pytest.mark.since("1.6")
def test_the_autoscaler_is_set_while_the_app_runs(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("autoscaler", image=modal.Image.debian_slim())

            @app.function(scaledown_window=2)
            def work(): ...

            def await_containers(number: int):
                deadline = time.time() + 30
                while (seen := work.get_current_stats().num_total_runners) != number:
                    assert time.time() < deadline, seen
                    time.sleep(0.1)

            @app.local_entrypoint()
            def main():
                work.update_autoscaler(min_containers=2, scaledown_window=2)
                await_containers(2)
                assert work.autoscaler.settings().min_containers == 2
                settings = work.autoscaler.update(min_containers=0)
                assert (settings.min_containers, settings.scaledown_window) == (0, 2)
                await_containers(0)
                print("up and down")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "up and down" in outcome.output
