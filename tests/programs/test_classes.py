"""Programs with classes: state in a container, parameters, hooks, options."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_methods_share_what_enter_set_up(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("class", image=modal.Image.debian_slim())

            @app.cls(enable_memory_snapshot=True)
            class Counter:
                @modal.enter(snap=True)
                def first(self):
                    self.entered = ["snap"]

                @modal.enter()
                async def second(self):
                    self.entered.append("enter")
                    self.total = 0

                @modal.method()
                def add(self, number: int) -> int:
                    self.total += number
                    return self.total

                @modal.method()
                def hooks(self) -> list:
                    return self.entered

                @modal.method()
                def count(self, number: int):
                    yield from range(number)

                @modal.exit()
                def last(self):
                    print("exit after", self.total)

            @app.local_entrypoint()
            def main():
                counter = Counter()
                assert [counter.add.remote(number) for number in (1, 2, 3)] == [1, 3, 6]
                assert counter.hooks.remote() == ["snap", "enter"]
                assert list(counter.count.remote_gen(3)) == [0, 1, 2]
                assert sorted(Counter().add.map([0, 0])) == [6, 6]
                print("all as one object")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "all as one object" in outcome.output
    assert "exit after 6" in outcome.output


def test_each_set_of_parameters_has_containers_of_its_own(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import socket
            import modal

            app = modal.App("parameters", image=modal.Image.debian_slim())

            @app.cls()
            class Model:
                name: str = modal.parameter()
                size: int = modal.parameter(default=3)

                @modal.method()
                def tell(self) -> tuple:
                    return self.name, self.size, socket.gethostname()

            @app.local_entrypoint()
            def main():
                small, large = Model(name="small"), Model(name="large", size=9)
                told = [small.tell.remote(), large.tell.remote(), small.tell.remote(), Model(name="small").tell.remote()]
                assert [each[:2] for each in told] == [("small", 3), ("large", 9), ("small", 3), ("small", 3)], told
                hosts = [each[2] for each in told]
                assert hosts[0] == hosts[2] == hosts[3] != hosts[1], hosts
                print("two pools")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "two pools" in outcome.output


@pytest.mark.since("1.3")
def test_options_make_a_variant_with_a_pool_of_its_own(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import os, time
            import modal

            app = modal.App("options", image=modal.Image.debian_slim())

            @app.cls(timeout=60)
            class Worker:
                @modal.method()
                def tell(self) -> str:
                    return os.environ.get("WHO", "nobody")

                @modal.method()
                def sleep(self, seconds: float) -> float:
                    time.sleep(seconds)
                    return seconds

            @app.local_entrypoint()
            def main():
                assert Worker().tell.remote() == "nobody"
                secret = modal.Secret.from_dict({"WHO": "somebody"})
                assert Worker.with_options(secrets=[secret])().tell.remote() == "somebody"
                quick = Worker.with_options(timeout=1)()
                try:
                    quick.sleep.remote(20)
                except modal.exception.FunctionTimeoutError:
                    print("in time out")
                started = time.time()
                together = Worker.with_options(max_containers=1).with_concurrency(max_inputs=4)()
                assert list(together.sleep.map([1.0] * 4)) == [1.0] * 4
                assert time.time() - started < 4, "at the same time, in one container"
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "in time out" in outcome.output


def test_a_class_whose_enter_fails_tells_its_error(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("bad-enter", image=modal.Image.debian_slim())

            @app.cls()
            class Broken:
                @modal.enter()
                def load(self):
                    raise FileNotFoundError("weights.bin")

                @modal.method()
                def run(self): ...

            @app.local_entrypoint()
            def main():
                try:
                    Broken().run.remote()
                except FileNotFoundError as error:
                    print("told:", error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "told: weights.bin" in outcome.output
