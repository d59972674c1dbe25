"""Programs with dicts: values that clients and containers share."""

import pytest

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest


def test_a_dict_is_shared_by_containers_and_clients(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("dict", image=modal.Image.debian_slim())
            shared = modal.Dict.from_name("shared", create_if_missing=True)

            @app.function()
            def fill():
                shared["from"] = "container"
                shared.update({"a": [1, 2], ("a", "tuple"): {"nested": True}})

            @app.local_entrypoint()
            def main():
                shared.clear()
                fill.remote()
                assert shared["from"] == "container" and shared[("a", "tuple")] == {"nested": True}
                assert shared.len() == 3 and "a" in shared and "b" not in shared
                assert sorted(map(str, shared.keys())) == ["('a', 'tuple')", "a", "from"]
                assert [1, 2] in list(shared.values()) and ("a", [1, 2]) in list(shared.items())
                assert shared.pop("a") == [1, 2] and shared.get("a", "gone") == "gone"
                assert shared.put("once", 1, skip_if_exists=True)
                assert not shared.put("once", 2, skip_if_exists=True) and shared["once"] == 1
                try:
                    shared["nothing"]
                except KeyError:
                    print("shared")
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "shared" in outcome.output


def test_an_ephemeral_dict_is_gone_with_its_program(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.script(
        program("""
            import modal

            with modal.Dict.ephemeral() as passing:
                passing["a"] = b"x" * 5_000_000
                assert passing["a"] == b"x" * 5_000_000
                print("id", passing.object_id)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "id di-" in outcome.output


@pytest.mark.since("1.3")
def test_a_dict_is_passed_on_by_its_id(server: ServerUnderTest, program: ProgramFolder) -> None:
    outcome = server.run(
        program("""
            import modal

            app = modal.App("dict-by-id", image=modal.Image.debian_slim())

            @app.function()
            def fill(dict_id: str):
                modal.Dict.from_id(dict_id)["key"] = "from the container"

            @app.local_entrypoint()
            def main():
                with modal.Dict.ephemeral() as passing:
                    fill.remote(passing.object_id)
                    print("passed", passing["key"])
                named = modal.Dict.from_name("by-id", create_if_missing=True).hydrate()
                print("named", modal.Dict.from_id(named.object_id).info().name)
                modal.Dict.objects.delete("by-id")
                for dict_id in (named.object_id, "di-nobodys"):
                    try:
                        modal.Dict.from_id(dict_id).hydrate()
                    except modal.exception.NotFoundError as error:
                        print(error)
        """)
    )
    assert outcome.code == 0, outcome.output
    assert "passed from the container" in outcome.output
    assert "named by-id" in outcome.output
    assert outcome.output.count("no dict di-") == 2 and "no dict di-nobodys" in outcome.output


def test_dicts_are_listed_shown_and_deleted_by_commands(server: ServerUnderTest) -> None:
    server.modal("dict", "create", "by-command")
    assert "by-command" in server.modal("dict", "list")
    server.modal("dict", "clear", "by-command", "--yes")
    server.modal("dict", "delete", "by-command", "--yes")
    assert "by-command" not in server.modal("dict", "list")
    assert "no dict is named by-command" in server.modal("dict", "items", "by-command", code=1)
