"""What a person sees while a program runs."""

import time

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_output_is_seen_while_the_function_still_runs(server: ServerUnderTest, program: ProgramFolder) -> None:
    run = server.begin(
        program("""
            import sys, time
            import modal

            app = modal.App("stream", image=modal.Image.debian_slim())

            @app.function()
            def speak():
                print("on stdout")
                print("on stderr", file=sys.stderr)
                time.sleep(5)
                return "the end"

            @app.local_entrypoint()
            def main():
                print(speak.remote())
        """)
    )
    lines = {run.await_line("on std").strip() for _ in range(2)}
    heard = time.monotonic()
    assert lines == {"on stdout", "on stderr"}, "in whatever order: they are two pipes"
    run.await_line("the end")
    assert time.monotonic() - heard > 2, "the output came only with the result"
    assert run.finish().code == 0


def test_output_without_a_line_end_and_in_any_language_arrives_whole(
    server: ServerUnderTest, program: ProgramFolder
) -> None:
    outcome = server.run(
        program("""
            import sys
            import modal

            app = modal.App("text", image=modal.Image.debian_slim())

            @app.function()
            def speak():
                sys.stdout.write("grüße 你好 ")
                sys.stdout.write("and no line end")
                sys.stdout.flush()

            @app.local_entrypoint()
            def main():
                speak.remote()
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "grüße 你好 and no line end" in outcome.output


def test_ten_thousand_lines_arrive_all_and_in_order(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("lines", image=modal.Image.debian_slim())

            @app.function()
            def speak():
                for number in range(10_000):
                    print("line", number)

            @app.local_entrypoint()
            def main():
                speak.remote()
        """)
    )
    assert outcome.code == 0, outcome.output[-2000:]
    lines = [line for line in outcome.output.splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(10_000)]
