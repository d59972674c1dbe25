"""Clients from 1.0 on run the same program; each container runs its own client's version."""

from __future__ import annotations

from urllib.request import urlopen

import pytest

from tests.clients import OLDEST, VARIABLE, install_client
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

HELLO = """
    import modal

    image = modal.Image.debian_slim().pip_install("six").run_commands("echo built > /built")
    app = modal.App("hello", image=image)

    @app.function()
    def hello(name: str) -> str:
        import six
        print("greeting", name)
        return f"hello {name} from {modal.__version__} {open('/built').read().strip()} {six.__name__}"

    shared = modal.Dict.from_name("clients", create_if_missing=True)
    line = modal.Queue.from_name("clients", create_if_missing=True)
    volume = modal.Volume.from_name("clients", create_if_missing=True)

    @app.function()
    def turn(data: bytes) -> bytes:
        return data[::-1]

    @app.function()
    def count(number: int):
        yield from range(number)

    @app.cls()
    class Counter:
        start: int = modal.parameter(default=0)

        @modal.enter()
        def begin(self):
            self.total = self.start

        @modal.method()
        def add(self, number: int) -> int:
            self.total += number
            return self.total

    @app.function(volumes={"/data": volume})
    @modal.concurrent(max_inputs=4)
    def keep(name: str) -> int:
        open(f"/data/{name}", "w").write(name)
        volume.commit()
        shared[name] = len(name)
        line.put(name)
        return len(name)

    @app.function(retries=1, timeout=60)
    def once_more(key: str) -> str:
        if not shared.get(key):
            shared[key] = True
            raise ValueError(key)
        return key

    @app.local_entrypoint()
    def main():
        print(hello.remote("you"))
        print(sorted(hello.map(["a", "b"])))
        large = b"large" * 1_000_000
        assert turn.remote(large) == large[::-1]
        version = modal.__version__
        assert list(count.remote_gen(3)) == [0, 1, 2]
        counter = Counter(start=10)
        assert [counter.add.remote(1), counter.add.remote(2)] == [11, 13]
        assert list(keep.map([version, version + "x"])) == [len(version), len(version) + 1]
        assert {line.get(timeout=10), line.get(timeout=10)} == {version, version + "x"}
        assert shared[version] == len(version)
        assert b"".join(volume.read_file(version)) == version.encode()
        call = once_more.spawn("try " + version)
        assert modal.FunctionCall.from_id(call.object_id).get() == "try " + version
        print("all of it")
"""


SERVICE = """
    import modal

    app = modal.App("of-{version}", image=modal.Image.debian_slim())

    @app.function()
    def version() -> str:
        return modal.__version__

    @app.function()
    @modal.wsgi_app()
    def site():
        def answer(request, start):
            start("200 OK", [])
            return [modal.__version__.encode()]
        return answer
"""
CALLER = """
    import modal

    print("deployed by", modal.Function.from_name("of-{version}", "version").remote())
"""


@pytest.mark.parametrize("version", ["1.0.5", "1.2.6", "1.4.3", "1.6.4"])
def test_a_client_runs_builds_and_uses_the_platform(
    server: ServerUnderTest, program: ProgramFolder, version: str
) -> None:
    outcome = server.run(program(HELLO), python=install_client(version))
    assert outcome.code == 0, outcome.output
    assert f"hello you from {version} built six" in outcome.output
    assert "greeting a" in outcome.output
    assert "all of it" in outcome.output


def test_what_the_oldest_client_deploys_is_called_by_the_newest(
    server: ServerUnderTest, program: ProgramFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, site = f"of-{OLDEST}", f"of-{OLDEST.replace('.', '-')}-site"
    program(SERVICE.format(version=OLDEST), "service.py")
    monkeypatch.setenv(VARIABLE, OLDEST)
    assert f"http://{site}.localhost" in server.modal("deploy", "service.py", folder=program.folder)
    with urlopen(f"http://127.0.0.1:{server.port + 1}/web/{site}/", timeout=60) as answer:
        assert answer.read().decode() == OLDEST
    monkeypatch.delenv(VARIABLE)
    outcome = server.script(program(CALLER.format(version=OLDEST), "caller.py"))
    assert f"deployed by {OLDEST}" in outcome.output
    monkeypatch.setenv(VARIABLE, OLDEST)
    server.modal("app", "stop", app, "--yes")
