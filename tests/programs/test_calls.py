"""Programs that call functions: each is run by the unmodified client, in real containers."""

from pathlib import Path

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_function_runs_in_a_container_and_its_result_comes_back(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import os
            import modal

            app = modal.App("remote", image=modal.Image.debian_slim())

            @app.function()
            def square(number: int) -> dict:
                return {"square": number * number, "remote": os.environ["MODAL_IS_REMOTE"], "root": os.getcwd()}

            @app.local_entrypoint()
            def main():
                print(square.remote(7))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "{'square': 49, 'remote': '1', 'root': '/root'}" in outcome.output


def test_local_runs_in_the_clients_own_process(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import os
            import modal

            app = modal.App("local", image=modal.Image.debian_slim())

            @app.function()
            def where() -> str:
                return f"{os.getpid()} {modal.is_local()}"

            @app.local_entrypoint()
            def main():
                assert where.local() == f"{os.getpid()} True"
                assert where.remote().endswith("False")
                print("both")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "both" in outcome.output


def test_map_gives_results_in_the_order_of_the_inputs(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("map", image=modal.Image.debian_slim())

            @app.function()
            def double(number: int) -> int:
                return 2 * number

            @app.local_entrypoint()
            def main():
                results = list(double.map(range(200)))
                assert results == [2 * number for number in range(200)], results
                print("200 in order")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "200 in order" in outcome.output


def test_a_map_of_slow_inputs_spreads_over_containers(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket, time
            import modal

            app = modal.App("spread", image=modal.Image.debian_slim())

            @app.function()
            def where(number: int) -> str:
                time.sleep(2)
                return socket.gethostname()

            @app.local_entrypoint()
            def main():
                print("containers:", len(set(where.map(range(4)))))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "containers: 1" not in outcome.output


def test_one_container_serves_one_input_after_the_other(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket
            import modal

            app = modal.App("reuse", image=modal.Image.debian_slim())
            served = 0

            @app.function()
            def serve() -> tuple:
                global served
                served += 1
                return socket.gethostname(), served

            @app.local_entrypoint()
            def main():
                answers = [serve.remote() for _ in range(3)]
                assert len({host for host, _ in answers}) == 1, answers
                print("served", [count for _, count in answers])
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "served [1, 2, 3]" in outcome.output


def test_an_idle_container_ends_after_the_scaledown_window(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket, time
            import modal

            app = modal.App("scaledown", image=modal.Image.debian_slim())

            @app.function(scaledown_window=2)
            def where() -> str:
                return socket.gethostname()

            @app.local_entrypoint()
            def main():
                first = where.remote()
                time.sleep(4)
                assert where.remote() != first
                print("another container")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "another container" in outcome.output


def test_an_exception_arrives_with_its_type_and_the_remote_traceback(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("exception", image=modal.Image.debian_slim())

            def deep(number):
                raise LookupError(f"no entry {number}")

            @app.function()
            def fail(number: int):
                deep(number)

            @app.local_entrypoint()
            def main():
                try:
                    fail.remote(5)
                except LookupError as error:
                    print("caught", error)
                fail.remote(6)
        """)
    )
    assert outcome.code == 1
    assert "caught no entry 5" in outcome.output
    assert "LookupError: no entry 6" in outcome.words
    assert "in deep" in outcome.words


def test_arguments_and_results_may_be_large(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import hashlib
            import modal

            app = modal.App("large", image=modal.Image.debian_slim())

            @app.function()
            def turn(data: bytes) -> bytes:
                return data[::-1]

            @app.local_entrypoint()
            def main():
                data = bytes(range(256)) * 40_000
                assert turn.remote(data) == data[::-1]
                assert list(turn.map([data, b"small"])) == [data[::-1], b"llams"]
                print(f"{len(data)} bytes there and back")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "10240000 bytes there and back" in outcome.output


def test_a_function_can_call_another(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("nested", image=modal.Image.debian_slim())

            @app.function()
            def inner(number: int) -> int:
                return number + 1

            @app.function()
            def outer(number: int) -> int:
                return inner.remote(number) * 10

            @app.local_entrypoint()
            def main():
                print("nested", outer.remote(4))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "nested 50" in outcome.output


def test_a_failing_input_is_tried_again_as_its_policy_says(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("retries", image=modal.Image.debian_slim())
            attempts = 0

            @app.function(retries=modal.Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0))
            def flaky() -> int:
                global attempts
                attempts += 1
                if attempts < 3:
                    raise RuntimeError("not yet")
                return attempts

            @app.local_entrypoint()
            def main():
                print("attempts", flaky.remote())
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "attempts 3" in outcome.output


def test_inputs_of_a_map_that_fail_are_tried_again_each_by_itself(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("retried-map", image=modal.Image.debian_slim())
            seen = set()

            @app.function(
                retries=modal.Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0), max_containers=1
            )
            def flaky(number: int) -> int:
                if number % 3 == 0 and number not in seen:
                    seen.add(number)
                    raise RuntimeError("not yet")
                return number

            @app.local_entrypoint()
            def main():
                print("numbers", sorted(flaky.map(range(10))) == list(range(10)))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "numbers True" in outcome.output


def test_a_coroutine_function_runs_as_well(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import asyncio
            import modal

            app = modal.App("coroutine", image=modal.Image.debian_slim())

            @app.function()
            @modal.concurrent(max_inputs=4)
            async def wait(number: int) -> int:
                await asyncio.sleep(0.2)
                return number

            @app.local_entrypoint()
            def main():
                print("sum", sum(wait.map(range(8))))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "sum 28" in outcome.output


def test_spawned_calls_are_found_again_gathered_and_cancelled(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("spawned", image=modal.Image.debian_slim())

            @app.function()
            def square(number: int) -> int:
                return number * number

            @app.function()
            def sleep() -> None:
                print("asleep")
                time.sleep(600)

            @app.local_entrypoint()
            def main():
                call = square.spawn(3)
                print("found", modal.FunctionCall.from_id(call.object_id).get())
                print("gathered", modal.FunctionCall.gather(square.spawn(4), square.spawn(5)))
                print("each", square.for_each([1, 2]), sorted(square.starmap([(6,), (7,)])))
                sleeper = sleep.spawn()
                try:
                    sleeper.get(timeout=0)
                except TimeoutError:
                    print("still asleep")
                sleeper.cancel()
                try:
                    sleeper.get(timeout=30)
                except modal.exception.RemoteError:
                    print("woken")
        """)
    )
    assert outcome.code == 0, outcome.output
    for line in ("found 9", "gathered [16, 25]", "each None [36, 49]", "still asleep", "woken"):
        assert line in outcome.output, outcome.output


@pytest.mark.since("1.1")
def test_inputs_that_are_spawned_together_are_one_call_which_is_found_again(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("spawned-map", image=modal.Image.debian_slim())
            seen = modal.Dict.from_name("spawned-map", create_if_missing=True)

            @app.function(max_containers=2)
            def square(number: int) -> int:
                if number < 0:
                    raise ValueError(f"{number} has no root")
                seen[number] = True
                return number * number

            @app.local_entrypoint()
            def main():
                call = square.experimental_spawn_map(range(300))
                found = modal.FunctionCall.from_id(call.object_id)
                print("inputs", found.num_inputs(), square.spawn(1).num_inputs())
                print("all", list(found.iter()) == [number * number for number in range(300)])
                print("some", list(found.iter(start=2, end=5)), found.get(index=299))
                try:
                    list(found.iter(end=301))
                except ValueError as error:
                    print(error)
                failing = modal.FunctionCall.from_id(square.experimental_spawn_map([3, -4]).object_id)
                try:
                    failing.get(index=1)
                except ValueError as error:
                    print("fails:", error, "not so", failing.get(index=0))
                nobodys = modal.FunctionCall.from_id("fc-nobodys")
                for ask in (nobodys.num_inputs, nobodys.get):
                    try:
                        ask()
                    except modal.exception.NotFoundError as error:
                        print(error)
                square.spawn_map([1000, 1001])
                while 1000 not in seen or 1001 not in seen:
                    pass
                modal.Dict.objects.delete("spawned-map")
        """)
    )
    assert outcome.code == 0, outcome.output
    for line in (
        "inputs 300 1",
        "all True",
        "some [4, 9, 16] 89401",
        "0 to 301 for 300 inputs",
        "fails: -4 has no root",
    ):
        assert line in outcome.output, outcome.output
    assert "not so 9" in outcome.output
    assert outcome.output.count("no call fc-nobodys") == 2


def test_a_limit_of_cpu_is_kept_by_the_kernel(server: ServerUnderTest, program: ProgramFolder) -> None:
    run = server.begin(
        program("""
            import time
            import modal

            app = modal.App("limited", image=modal.Image.debian_slim())

            @app.function(cpu=(0.25, 0.5))
            def work() -> None:
                print("at work")
                time.sleep(3)

            @app.local_entrypoint()
            def main():
                work.remote()
        """)
    )
    run.await_line("at work")
    group = f"jiffy-{server.data.instance}/ta-*"
    first = [path.read_text().strip() for path in Path("/sys/fs/cgroup").glob(f"cpu/{group}/cpu.cfs_quota_us")]
    second = [path.read_text().split()[0] for path in Path("/sys/fs/cgroup").glob(f"{group}/cpu.max")]
    assert "50000" in first + second
    assert run.finish().code == 0
