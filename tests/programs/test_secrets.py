"""Secrets: environment variables that programs share by name, and that nobody reads but containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

READER = """
    import os
    import modal

    app = modal.App("reader", image=modal.Image.debian_slim())

    @app.function(secrets=[modal.Secret.from_name("login")])
    def read() -> list[str | None]:
        return [os.environ.get(name) for name in ("USER_NAME", "PASSWORD", "PLACE")]

    @app.local_entrypoint()
    def main():
        print("read", read.remote())
"""


@pytest.fixture
def login(server: ServerUnderTest) -> Iterator[str]:
    server.modal("secret", "create", "login", "USER_NAME=me", "PASSWORD=old")
    yield "login"
    server.modal("secret", "delete", "login", "--yes")


@pytest.mark.since("1.3")
def test_a_secret_that_is_updated_keeps_what_is_not_mentioned(
    server: ServerUnderTest, login: str, program: ProgramFolder
) -> None:
    reader = program(READER, "reader.py")
    assert "read ['me', 'old', None]" in server.run(reader).output
    outcome = server.script(
        program("""
            import modal

            secret = modal.Secret.from_name("login")
            secret.update({"PASSWORD": "new", "PLACE": "here"})
            try:
                secret.update({"A=B": "new"})
            except modal.exception.InvalidError as error:
                print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "'A=B' cannot be an environment variable" in outcome.output
    assert "read ['me', 'new', 'here']" in server.run(reader).output


@pytest.mark.since("1.6")
def test_a_secret_tells_what_it_is_until_it_is_deleted(
    server: ServerUnderTest, login: str, program: ProgramFolder
) -> None:
    outcome = server.script(
        program("""
            import modal

            secret = modal.Secret.from_name("login")
            before = secret.info()
            assert secret.info(refresh=True) == before
            print("named", before.name, "in", before.environment_name)
            passing = modal.Secret.from_dict({"A": "B"})
            print("nameless", passing.info().name, passing.info(refresh=True).name)
            modal.Secret.objects.create("fleeting", {"A": "B"})
            fleeting = modal.Secret.from_name("fleeting").hydrate()
            modal.Secret.objects.delete("fleeting")
            for ask in (lambda: fleeting.info(refresh=True), lambda: fleeting.update({"A": "C"})):
                try:
                    ask()
                except modal.exception.NotFoundError as error:
                    print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "named login in main" in outcome.output
    assert "nameless None None" in outcome.output
    assert outcome.output.count("no secret st-") == 2


@pytest.mark.since("1.5")
def test_secrets_of_environments_are_apart(server: ServerUnderTest, login: str, program: ProgramFolder) -> None:
    server.modal("environment", "create", "apart")
    try:
        outcome = server.script(
            program("""
                import modal

                modal.Secret.objects.create("login", {"USER_NAME": "another"}, environment_name="apart")
                print("in apart", modal.Secret.from_name("login", environment_name="apart").info().environment_name)
                modal.Secret.objects.delete("login", environment_name="apart")
                for environment in ("apart", "nowhere"):
                    try:
                        modal.Secret.from_name("login", environment_name=environment).hydrate()
                    except modal.exception.NotFoundError as error:
                        print(error)
            """)
        )
    finally:
        server.modal("environment", "delete", "apart", "--yes")
    assert outcome.code == 0, outcome.output
    assert "in apart apart" in outcome.output
    assert "no secret is named login" in outcome.output
    assert "no environment nowhere" in outcome.output
    assert [each["name"] for each in server.listed("secret", "list")] == ["login"]
