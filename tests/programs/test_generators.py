"""Programs with generators: values arrive as they are made."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_values_of_a_generator_arrive_while_it_runs(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import time
            import modal

            app = modal.App("generator", image=modal.Image.debian_slim())

            @app.function()
            def count(number: int):
                for value in range(number):
                    yield value, time.time()
                    time.sleep(0.5)

            @app.local_entrypoint()
            def main():
                seen = [(value, made, time.time()) for value, made in count.remote_gen(4)]
                assert [value for value, _, _ in seen] == [0, 1, 2, 3], seen
                assert seen[0][2] < seen[3][1], "the first one came when the last one was not made"
                print("in time")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "in time" in outcome.output


def test_an_asynchronous_generator_gives_large_values_too(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("async-generator", image=modal.Image.debian_slim())

            @app.function()
            async def blocks(number: int):
                for value in range(number):
                    yield bytes([value]) * 3_000_000

            @app.local_entrypoint()
            async def main():
                async for block in blocks.remote_gen.aio(3):
                    print(len(block), block[0])
        """)
    )
    assert outcome.code == 0, outcome.output
    for value in range(3):
        assert f"3000000 {value}" in outcome.output


def test_a_container_reads_the_generator_of_another_function(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("nested-generator", image=modal.Image.debian_slim())

            @app.function()
            def letters(word: str):
                yield from word

            @app.function()
            def spell(word: str) -> str:
                return "-".join(letters.remote_gen(word))

            @app.local_entrypoint()
            def main():
                print(spell.remote("jiffy"))
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "j-i-f-f-y" in outcome.output


@pytest.mark.since("1.1")
def test_an_exception_of_a_generator_comes_after_its_values(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("failing-generator", image=modal.Image.debian_slim())

            @app.function()
            def numbers():
                yield 1
                yield 2
                raise KeyError("no third")

            @app.local_entrypoint()
            def main():
                seen = []
                try:
                    for value in numbers.remote_gen():
                        seen.append(value)
                except KeyError as error:
                    print(seen, "then", error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "[1, 2] then 'no third'" in outcome.output
